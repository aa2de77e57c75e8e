import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";

/**
 * The files with the addresses of resolvers, the best first. systemd-resolved's own has those that it asks, and
 * resolv.conf only its address on the loopback, which is another one in a network namespace.
 */
const FILES = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"] as const;

/** Returns the IPv4 address of the host's first resolver that is not on its loopback, if there is one. */
export function findResolver(files: readonly string[] = FILES): string | undefined {
  return files.flatMap(readResolvers).find((address) => isIPv4(address) && !address.startsWith("127."));
}

function readResolvers(file: string): string[] {
  try {
    const lines = readFileSync(file, "utf8").split("\n");
    return lines.flatMap((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? []);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
