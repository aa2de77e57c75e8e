/** Compares and formats IP addresses and networks of both families. Pure. */
import { BlockList, isIPv4, isIPv6 } from "node:net";

/** Tells the family of an address or network that is one. */
export function familyOf(text: string): "ipv4" | "ipv6" {
  return text.includes(":") ? "ipv6" : "ipv4";
}

/** Returns an IPv6 address in the form of RFC 5952, such as 2001:db8::1. Undefined for other texts, also with a zone. */
export function canonicalIpv6(text: string): string | undefined {
  if (!isIPv6(text) || text.includes("%")) return undefined;
  return new URL(`http://[${text}]`).hostname.slice(1, -1);
}

/** Tells whether a text is an IPv4 address, or an IPv6 address in canonical form. */
export function isAddress(text: string): boolean {
  return isIPv4(text) || canonicalIpv6(text) === text;
}

/** Tells whether a network in CIDR notation contains an address, of the same family. */
export function isIn(network: string, address: string): boolean {
  const [base = "", bits] = network.split("/");
  const family = familyOf(network);
  if (family !== familyOf(address)) return false;
  const list = new BlockList();
  list.addSubnet(base, Number(bits), family);
  return list.check(address, family);
}
