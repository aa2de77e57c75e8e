import { readFileSync } from "node:fs";

const FILE = "/proc/net/route";
const HOST_MASK = "FFFFFFFF";
/** The addresses of 32-bit numbers in this file are in the order of bytes of the machine, which is little-endian. */
const BYTES = [6, 4, 2, 0];

/** Lists the IPv4 addresses to which this process's network namespace has a route of their own, by interface. */
export function listLinkAddresses(text = readFileSync(FILE, "utf8")): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  // The first line is a head; see proc_pid_net(5).
  for (const line of text.split("\n").slice(1)) {
    const [link = "", destination = "", , , , , , mask] = line.trim().split(/\s+/);
    if (mask !== HOST_MASK) continue;
    const address = BYTES.map((at) => Number.parseInt(destination.slice(at, at + 2), 16)).join(".");
    const known = found.get(link);
    if (known === undefined) found.set(link, [address]);
    else known.push(address);
  }
  return found;
}
