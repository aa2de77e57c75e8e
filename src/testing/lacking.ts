/** What a driver is asked for although its features deny it. Its caller has a fault then, whatever the driver does. */
import type { BootPlan, DriverFeatures, VmLimits } from "#drivers/vm-driver.ts";

/** Of a VM that is to be started with this plan, in words. Pure. */
export function lackingFor(features: DriverFeatures, plan: BootPlan): string[] {
  const { networks, nested, layeredDisks } = features;
  const cpusMax = nested?.cpusMax ?? 0;
  const layered = plan.disks.some(({ format, backing = [] }) => format === "qcow2" || backing.length > 0);
  return [
    ...(networks.includes(plan.network) ? [] : [`the network ${plan.network}`]),
    ...(plan.nested && plan.cpus > cpusMax ? [`${plan.cpus} CPUs of a guest that runs VMs`] : []),
    ...(layered && !layeredDisks ? ["a disk in layers"] : []),
    ...lackingLimits(features, plan.limits ?? {}),
  ];
}

/** Pure. */
export function lackingLimits({ limits }: DriverFeatures, { disk, net }: VmLimits): string[] {
  return [
    ...(disk !== undefined && !limits.disk ? ["a limit for disks"] : []),
    ...(net !== undefined && !limits.net ? ["a limit for the network"] : []),
  ];
}
