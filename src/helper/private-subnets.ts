/** Finds the addresses of private networks in the files that agent/internal/privatenet writes. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod/mini";
import { HearthError } from "#base/error.ts";
import { parseJson } from "#helper/message-lines.ts";

const network = z.object({ key: z.string() });

/**
 * Returns the network in CIDR notation that this host has for a key.
 * @throws HearthError `host.tool_failed` if no VM of this host is on it
 */
export function privateSubnet(dir: string, key: string): string {
  const prefix = `.net-${statSync("/proc/self/ns/net").ino}-`;
  for (const name of readdirSync(dir)) {
    if (!name.startsWith(prefix)) continue;
    // The first line is the digest of the other.
    const [, text = ""] = readFileSync(join(dir, name), "utf8").split("\n");
    const number = Number(name.slice(prefix.length));
    if (network.parse(parseJson(text)).key === key) return `198.19.${number}.0/24`;
  }
  throw new HearthError("host.tool_failed", "No VM of this host is on a private network of the policy.");
}
