/**
 * Finds what a driver is asked for although its features deny it. Its caller has a fault then, whatever the driver
 * does.
 */
import { plannedLimits } from "#drivers/device-limits.ts";
import type { BootPlan, DeviceLimits, DriverFeatures } from "#drivers/vm-driver.ts";

/** Lists in words what a start with this plan asks for in vain. Pure. */
export function lackingFor(features: DriverFeatures, plan: BootPlan): string[] {
  const { networks, nested, layeredDisks } = features;
  const cpusMax = nested?.cpusMax ?? 0;
  const layered = plan.disks.some(({ format, backing = [] }) => format === "qcow2" || backing.length > 0);
  return [
    ...plan.nics.flatMap(({ attach }) =>
      networks.includes(attach.kind === "tap" ? "nat" : attach.kind) ? [] : [`a card on ${attach.kind}`],
    ),
    ...(plan.nested && plan.cpus > cpusMax ? [`${plan.cpus} CPUs of a guest that runs VMs`] : []),
    ...(layered && !layeredDisks ? ["a disk in layers"] : []),
    ...lackingLimits(features, plannedLimits(plan)),
  ];
}

/** Pure. */
export function lackingLimits({ limits }: DriverFeatures, { disks = {}, nics = {} }: DeviceLimits): string[] {
  const some = (byId: object): boolean => Object.values(byId).some((limit) => limit !== undefined);
  return [
    ...(some(disks) && !limits.disk ? ["a limit for disks"] : []),
    ...(some(nics) && !limits.net ? ["a limit for the network"] : []),
  ];
}
