import { readFileSync } from "node:fs";

/** A kernel without IPv6 does not have it. */
const DISABLED = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/** Tells whether new links have IPv6. An administrator may have disabled it, also for the whole kernel. */
export function newLinksHave6(): boolean {
  try {
    return readFileSync(DISABLED, "utf8").trim() === "0";
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}
