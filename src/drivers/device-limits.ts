/** Which limit a device is to get. Pure. */
import type { BootPlan, DeviceLimits } from "#drivers/vm-driver.ts";
import type { RateLimit } from "#model/rate-limit.ts";

type ById = Readonly<Record<string, RateLimit | undefined>>;

/**
 * Returns the limit of one device; undefined when it keeps what it has.
 * @param device by its id, or `older`: one of the VM's own in the VMM of an older hearthd, which knew no ids. All of those
 * have the same limit, which is that of any that is named.
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

/** Returns the limits that a plan has for its disks and cards. */
export function plannedLimits({ disks, nics }: Pick<BootPlan, "disks" | "nics">): Required<DeviceLimits> {
  const byId = (devices: readonly { readonly id: string; readonly limit?: RateLimit | undefined }[]): ById =>
    Object.fromEntries(devices.map(({ id, limit }) => [id, limit]));
  return { disks: byId(disks), nics: byId(nics) };
}
