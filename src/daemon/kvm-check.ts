import type { DoctorCheck } from "#api/wire.ts";
import type { Host } from "#daemon/host.ts";

/** Filled in with the driver's probe. */
export class KvmCheck {
  readonly #host: Host;
  constructor(host: Host) {
    this.#host = host;
  }
  async check(_fresh: boolean, signal: AbortSignal): Promise<DoctorCheck> {
    const features = await this.#host.drivers.get("qemu")?.features(signal);
    return { name: "kvm", verdict: "warn", found: `${features?.accel ?? "none"}` };
  }
}
