import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/** Returns the driver of this name. @throws HearthError `input.invalid` when there is none */
export function driverOf(host: Pick<Host, "drivers">, name: string): VmDriver {
  const driver = host.drivers.get(name);
  if (driver !== undefined) return driver;
  throw new HearthError("input.invalid", `driver: there is no driver ${JSON.stringify(name)}.`, {
    hint: `Choose one of ${[...host.drivers.keys()].join(", ")}, or leave it out.`,
  });
}

/**
 * Returns the driver that was asked for, or the most preferred of those that can run this VM on this host.
 * @throws HearthError `vmm.missing`, `feature.missing`: what the most preferred one lacks, with a hint
 */
export async function chooseDriver(
  host: Pick<Host, "drivers">,
  spec: VmSpec,
  signal: AbortSignal,
): Promise<VmDriver> {
  const candidates = spec.driver === undefined ? [...host.drivers.values()] : [driverOf(host, spec.driver)];
  const preferred = await Promise.all(
    candidates.map(async (driver) => ({ driver, by: (await driver.features(signal)).preference })),
  );
  let why: HearthError | undefined;
  for (const { driver } of preferred.toSorted((a, b) => b.by - a.by)) {
    const lacking = await driver.canRun(spec, signal);
    if (lacking === undefined) return driver;
    why ??= new HearthError(lacking.code, lacking.message, { hint: lacking.hint });
  }
  throw why ?? new HearthError("vmm.missing", "This hearthd has no driver.");
}
