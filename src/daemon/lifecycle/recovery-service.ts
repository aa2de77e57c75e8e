import { within } from "#base/deadline.ts";
import type { Host } from "#daemon/host.ts";
import { moveToLostFound } from "#daemon/lifecycle/lost-found.ts";
import { recover } from "#daemon/lifecycle/recover.ts";
import type { Service } from "#daemon/lifecycle/service.ts";
import type { Vms } from "#daemon/vm/vms.ts";

/** The time for which hearthd waits for its VMs to be recovered before it listens. */
const RECOVERED_SOON_MS = 1_000;

/** Recovers the VMs when hearthd starts. */
export class RecoveryService implements Service {
  readonly name = "recovery";
  readonly #host: Host;
  readonly #vms: Vms;
  #done: Promise<boolean> = Promise.resolve(false);

  constructor(host: Host, vms: Vms) {
    this.#host = host;
    this.#vms = vms;
  }

  /** Resolves when every VM is recovered, with whether that succeeded. Never rejects. */
  get done(): Promise<boolean> {
    return this.#done;
  }

  /** Begins the recovery, and resolves when requests may come: every VM is recovered, or locked until it is. */
  async start(): Promise<void> {
    const { images, log } = this.#host;
    await images.cleanUp();
    await this.#cleanUpVolumes();
    const { done } = await recover(this.#host, this.#vms);
    this.#done = done.then(
      () => true,
      (error: unknown) => {
        log.event("daemon.bug", { where: "recovery", error });
        return false;
      },
    );
    // Most VMs take milliseconds; the others are busy until they are recovered.
    await within(this.#done, RECOVERED_SOON_MS);
  }

  /** Waits for the recovery, which is not cancelled. */
  async drain(): Promise<void> {
    await this.#done;
  }

  async #cleanUpVolumes(): Promise<void> {
    const { volumes, log } = this.#host;
    const onLeft = (path: string, error: unknown): void => log.event("clean.left_over", { path, error });
    for (const name of await volumes.cleanUp(onLeft)) {
      await moveToLostFound(this.#host, "volumes", name).catch((error: unknown) => onLeft(name, error));
    }
  }
}
