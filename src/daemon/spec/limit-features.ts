import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import { missingLimit } from "#drivers/can-run.ts";
import type { DriverFeatures } from "#drivers/vm-driver.ts";
import type { VmSpec } from "#model/vm-spec.ts";

type Limited = Pick<VmSpec, "diskLimit" | "netLimit" | "network">;

/**
 * Checks that the limits can be set, before anything is created or changed. Without a `driver`, one that can is enough:
 * the start chooses it.
 * @throws HearthError `feature.missing` that names the drivers of this host that can
 */
export async function assertLimits(
  host: Pick<Host, "drivers">,
  spec: Limited,
  driver: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (spec.diskLimit === undefined && spec.netLimit === undefined) return;
  const able: string[] = [];
  let lacking: string | undefined;
  for (const { name, features } of await readFeatures(host, signal)) {
    const missing = missingLimit(features, spec);
    if (missing === undefined) able.push(name);
    else if (driver === undefined || driver === name) lacking ??= missing;
  }
  if (lacking === undefined || (driver === undefined && able.length > 0)) return;
  throw limitMissing(lacking, driver, able);
}

async function readFeatures(host: Pick<Host, "drivers">, signal: AbortSignal) {
  const found: { name: string; features: DriverFeatures }[] = [];
  for (const [name, each] of host.drivers) {
    const features = await each.features(signal);
    if (features.available.ok) found.push({ name, features });
  }
  return found;
}

function limitMissing(flag: string, driver: string | undefined, able: readonly string[]): HearthError {
  const who = driver === undefined ? "no driver on this host can" : `the driver ${driver} cannot`;
  const what = flag === "net-limit" ? "a network card" : "disks";
  return new HearthError("feature.missing", `${flag}: ${who} limit ${what}.`, {
    hint:
      able.length > 0
        ? `Use a driver that can: ${able.join(", ")}.`
        : `Leave --${flag} out${flag === "net-limit" ? ", or use --network nat, which has limits" : ""}.`,
  });
}
