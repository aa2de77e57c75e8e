import type { DriverFeatures, Lacking, RunSpec } from "#drivers/vm-driver.ts";

export const OTHER_DRIVER = "Use a driver that can: `hearth doctor` lists them.";

/** The limits of a VM, by the flags that set them. */
export type LimitFlag = "disk-limit" | "net-limit";

/** Returns which limit of the spec a driver with these features lacks; undefined when it has all. Pure. */
export function missingLimit(
  { limits }: Pick<DriverFeatures, "limits">,
  { diskLimit, netLimit, network }: Pick<RunSpec, "diskLimit" | "netLimit" | "network">,
): LimitFlag | undefined {
  if (diskLimit !== undefined && !limits.disk) return "disk-limit";
  // With nat, the network namespace has the limit.
  if (netLimit !== undefined && network !== "nat" && !limits.net) return "net-limit";
  return undefined;
}

/**
 * Returns what a driver with these features lacks for a VM, or undefined: for drivers whose features say all there is
 * to say. Pure.
 */
export function lackingFeature(name: string, features: DriverFeatures, spec: RunSpec): Lacking | undefined {
  const { available, networks, nested } = features;
  if (!available.ok) return { code: "vmm.missing", message: available.reason, hint: available.hint };
  const lacks = (what: string, hint: string): Lacking => {
    return { code: "feature.missing", message: `The driver ${name} ${what}.`, hint };
  };
  if (!networks.includes(spec.network))
    return lacks(`has no network "${spec.network}"`, `It has ${networks.join(" and ")}. ${OTHER_DRIVER}`);
  const limit = missingLimit(features, spec);
  if (limit !== undefined) return lacks(`has no ${limit}`, `Leave --${limit} out. ${OTHER_DRIVER}`);
  if (!spec.nested) return undefined;
  if (nested === undefined) return lacks("does not support nested virtualization", OTHER_DRIVER);
  if (spec.cpus <= nested.cpusMax) return undefined;
  return {
    code: "feature.missing",
    message: `nested: on this host a VM with --nested can have ${nested.cpusMax} CPU, not ${spec.cpus}.`,
    hint: `Use --cpus ${nested.cpusMax}${nested.reason === undefined ? "" : `: ${nested.reason}`}.`,
  };
}
