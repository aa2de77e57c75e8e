import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/** @throws HearthError `input.invalid` for a name that no driver has. */
export function driverOf(host: Pick<Host, "drivers">, name: string): VmDriver {
  const driver = host.drivers.get(name);
  if (driver !== undefined) return driver;
  throw new HearthError("input.invalid", `driver: there is no driver ${JSON.stringify(name)}.`, {
    hint: `Choose one of ${[...host.drivers.keys()].join(", ")}, or leave it out.`,
  });
}

/**
 * The driver that was asked for, or the first that this host can use.
 * @throws HearthError `vmm.missing` with the reason and the cure.
 */
export async function chooseDriver(
  host: Pick<Host, "drivers">,
  spec: VmSpec,
  signal: AbortSignal,
): Promise<VmDriver> {
  const candidates = spec.driver === undefined ? [...host.drivers.values()] : [driverOf(host, spec.driver)];
  let why: HearthError | undefined;
  for (const driver of candidates) {
    const features = await driver.features(signal);
    if (features.available.ok && features.networks.includes(spec.network)) return driver;
    why ??= features.available.ok
      ? new HearthError("feature.missing", `The driver ${driver.name} has no network "${spec.network}".`)
      : new HearthError("vmm.missing", features.available.reason, { hint: features.available.hint });
  }
  throw why ?? new HearthError("vmm.missing", "This hearthd has no driver.");
}
