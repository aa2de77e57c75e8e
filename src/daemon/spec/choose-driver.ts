import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import { missingLimit } from "#daemon/spec/limit-features.ts";
import { OTHER_DRIVER } from "#daemon/spec/lacking-features.ts";
import type { DriverFeatures, VmDriver } from "#drivers/vm-driver.ts";
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
 * The driver that was asked for, or the best that can run this VM on this host.
 * @throws HearthError `vmm.missing` with the reason and the cure.
 */
export async function chooseDriver(
  host: Pick<Host, "drivers">,
  spec: VmSpec,
  signal: AbortSignal,
): Promise<VmDriver> {
  const candidates = spec.driver === undefined ? [...host.drivers.values()] : [driverOf(host, spec.driver)];
  const asked = await Promise.all(
    candidates.map(async (driver) => ({ driver, features: await driver.features(signal) })),
  );
  let why: HearthError | undefined;
  for (const { driver, features } of asked.toSorted(
    (a, b) => b.features.preference - a.features.preference,
  )) {
    const lacking = whatLacks(driver.name, features, spec);
    if (lacking === undefined) return driver;
    why ??= lacking;
  }
  throw why ?? new HearthError("vmm.missing", "This hearthd has no driver.");
}

/** Why this driver cannot run this VM, or undefined. */
function whatLacks(name: string, features: DriverFeatures, spec: VmSpec): HearthError | undefined {
  const { available, networks, nested } = features;
  if (!available.ok) return new HearthError("vmm.missing", available.reason, { hint: available.hint });
  const lacks = (what: string, hint: string): HearthError =>
    new HearthError("feature.missing", `The driver ${name} ${what}.`, { hint });
  if (!networks.includes(spec.network))
    return lacks(`has no network "${spec.network}"`, `It has ${networks.join(" and ")}. ${OTHER_DRIVER}`);
  const limit = missingLimit(features, spec);
  if (limit !== undefined) return lacks(`has no ${limit}`, `Leave --${limit} out. ${OTHER_DRIVER}`);
  if (!spec.nested) return undefined;
  if (nested === undefined) return lacks("runs no guests that run VMs themselves", OTHER_DRIVER);
  if (spec.cpus <= nested.cpusMax) return undefined;
  return new HearthError(
    "feature.missing",
    `nested: on this host a guest that runs VMs itself can have ${nested.cpusMax} CPU, not ${spec.cpus}.`,
    { hint: `Use --cpus ${nested.cpusMax}${nested.reason === undefined ? "" : `: ${nested.reason}`}.` },
  );
}
