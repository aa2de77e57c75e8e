import { existsSync, readFileSync } from "node:fs";

/** A line for each route: its network and the bits of that, in hexadecimal; and, at the end, its flags and link. */
const ROUTES = "/proc/net/ipv6_route";
const EVERYWHERE = `${"0".repeat(32)} 00`;
const LOOPBACK = "lo";

/** The network and the link of a route. */
type Route = { readonly to: string; readonly link: string };

/** Tells whether this host has IPv6: its kernel has it, and there is a default route. */
export function hasIpv6(): boolean {
  return readRoutes().some(({ to, link }) => to === EVERYWHERE && link !== LOOPBACK);
}

/** Tells whether a link of this host has a route to one private IPv6 address. It has no such address itself. */
export function hasIpv6Peer(link: string): boolean {
  return readRoutes().some((route) => route.link === link && /^fd\S+ 80$/.test(route.to));
}

function readRoutes(): Route[] {
  if (!existsSync(ROUTES)) return [];
  const lines = readFileSync(ROUTES, "utf8").split("\n");
  return lines.flatMap((line) => {
    const [, to, link] = /^(\S+ \S+) .* (\S+)$/.exec(line) ?? [];
    return to === undefined || link === undefined ? [] : [{ to, link }];
  });
}
