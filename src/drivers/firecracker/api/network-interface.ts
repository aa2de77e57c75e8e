import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";
import {
  checkRateLimiter,
  type RateLimiter,
  rateLimiterPayload,
} from "#drivers/firecracker/api/rate-limiter.ts";

const MAC = /^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/;
/** IFNAMSIZ is 16 with the final NUL. */
const DEV_NAME_MAX_BYTES = 15;
/** The smallest MTU of IPv4, and the field's size. */
const MTU_MIN = 68;
const MTU_MAX = 65_535;

export type NetworkInterface = {
  readonly ifaceId: string;
  /** The TAP device, in the network namespace of the VMM. */
  readonly hostDevName: string;
  readonly guestMac?: string | undefined;
  /** The MTU that the guest is told; since 1.16. */
  readonly mtu?: number | undefined;
  readonly rxRateLimiter?: RateLimiter | undefined;
  readonly txRateLimiter?: RateLimiter | undefined;
};

/** A change of a running VM's interface. */
export type NetworkInterfacePatch = Pick<NetworkInterface, "ifaceId" | "rxRateLimiter" | "txRateLimiter">;

/** Returns the body of `PUT /network-interfaces/{id}`. Pure. */
export function networkInterfacePayload(iface: NetworkInterface): Payload {
  return payload({
    iface_id: iface.ifaceId,
    host_dev_name: iface.hostDevName,
    guest_mac: iface.guestMac,
    mtu: iface.mtu,
    rx_rate_limiter: rateLimiterPayload(iface.rxRateLimiter),
    tx_rate_limiter: rateLimiterPayload(iface.txRateLimiter),
  });
}

/** Returns the body of `PATCH /network-interfaces/{id}`. Pure. */
export function networkInterfacePatchPayload(patch: NetworkInterfacePatch): Payload {
  return payload({
    iface_id: patch.ifaceId,
    rx_rate_limiter: rateLimiterPayload(patch.rxRateLimiter),
    tx_rate_limiter: rateLimiterPayload(patch.txRateLimiter),
  });
}

/** Checks the rules of a TAP device's name. */
export function checkDevName(problems: Problems, field: string, name: string): void {
  if (!problems.required(field, name)) return;
  const bytes = Buffer.byteLength(name);
  problems.check(bytes >= 1 && bytes <= DEV_NAME_MAX_BYTES, field, `1 to ${DEV_NAME_MAX_BYTES} bytes`, name);
  problems.check(!/[\s/\0]/.test(name), field, "without slash and space", name);
}

/** Checks the rules of one interface. That ids are unique is a rule of the whole configuration. */
export function checkNetworkInterface(problems: Problems, at: string, iface: NetworkInterface): void {
  problems.id(`${at}.ifaceId`, iface.ifaceId);
  checkDevName(problems, `${at}.hostDevName`, iface.hostDevName);
  problems.matches(`${at}.guestMac`, iface.guestMac, MAC, "a MAC address such as 06:00:ac:10:00:02");
  problems.integer(`${at}.mtu`, iface.mtu, MTU_MIN, MTU_MAX);
  checkRateLimiter(problems, `${at}.rxRateLimiter`, iface.rxRateLimiter);
  checkRateLimiter(problems, `${at}.txRateLimiter`, iface.txRateLimiter);
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putNetworkInterface(iface: NetworkInterface): ApiRequest {
  checked((problems) => checkNetworkInterface(problems, "networkInterface", iface));
  return apiRequest("PUT", `/network-interfaces/${iface.ifaceId}`, networkInterfacePayload(iface));
}

/** Returns a request that is sent after the start. @throws HearthError `input.invalid` */
export function patchNetworkInterface(patch: NetworkInterfacePatch): ApiRequest {
  checked((problems) => {
    problems.id("networkInterface.ifaceId", patch.ifaceId);
    checkRateLimiter(problems, "networkInterface.rxRateLimiter", patch.rxRateLimiter);
    checkRateLimiter(problems, "networkInterface.txRateLimiter", patch.txRateLimiter);
  });
  return apiRequest("PATCH", `/network-interfaces/${patch.ifaceId}`, networkInterfacePatchPayload(patch));
}
