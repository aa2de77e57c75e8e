/** Chooses the limit that a device gets. Pure. */
import type { BootPlan, DeviceLimits } from "#drivers/vm-driver.ts";
import type { RateLimit } from "#model/rate-limit.ts";

type ById = Readonly<Record<string, RateLimit | undefined>>;

/**
 * Returns the limit of one device; undefined when it keeps what it has.
 * @param device the device's id, or `older` for a disk of the VM in the VMM of an older hearthd, which knew no ids. All
 * of those have one limit: that of any disk that is named.
 */
export function limitOf(
  limits: ById,
  device: { readonly id: string } | "older" | undefined,
): { readonly limit: RateLimit | undefined } | undefined {
  if (device === undefined) return undefined;
  const named = device === "older" ? Object.keys(limits) : [device.id].filter((id) => id in limits);
  const [id] = named;
  return id === undefined ? undefined : { limit: limits[id] };
}

/** Returns the limits that a plan has for its disks and NICs. */
export function plannedLimits({ disks, nics }: Pick<BootPlan, "disks" | "nics">): Required<DeviceLimits> {
  const byId = (devices: readonly { readonly id: string; readonly limit?: RateLimit | undefined }[]): ById =>
    Object.fromEntries(devices.map(({ id, limit }) => [id, limit]));
  return { disks: byId(disks), nics: byId(nics) };
}
