/**
 * Makes the host a router for IPv6, and restores it. A Linux router ignores the router advertisements by which it found
 * its own address and default route, and removes that route, unless `accept_ra` of the link is 2 (ip-sysctl.rst). So
 * each link that accepts them gets that value first. A file has the values from before.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LINK_PREFIX } from "#model/inside-addresses.ts";

/** The settings of each link, and of `all` and `default`. A kernel without IPv6 has none. */
const CONF = "/proc/sys/net/ipv6/conf";
/** Makes every link forward, and no link accept advertisements. */
export const FORWARDING6 = `${CONF}/all/forwarding`;
/** Advertisements are accepted unless the link forwards; and always. */
const ACCEPT_RA = { unlessRouter: "1", always: "2" } as const;

/** Tells whether new links have IPv6. An administrator may have disabled it, also for the whole kernel. */
export function newLinksHave6(): boolean {
  return read("default/disable_ipv6") === "0";
}

/** Returns these commands where new links have IPv6, and none elsewhere. */
export function with6(...commands: readonly string[]): readonly string[] {
  return newLinksHave6() ? commands : [];
}

/**
 * Writes down what `startForwarding6` changes, if it changes something. Call it first: after a crash in between, the
 * file is there.
 */
export function recordRouter6(file: string): void {
  if (read("all/forwarding") !== "0") return;
  const links = readdirSync(CONF).filter((name) => name !== "all" && !name.startsWith(LINK_PREFIX));
  const found = links.flatMap((name): [string, string][] => {
    // The kernel sets `forwarding` of all links to what `all` gets, and back.
    const settings = [`${name}/accept_ra`, `${name}/forwarding`] as const;
    return settings.filter((setting) => read(setting) === "1").map((setting) => [setting, "1"]);
  });
  // Somebody else may have changed `forwarding` since it was recorded first.
  const settings = new Map([...found, ...readRecord(file)]);
  const text = [...settings].map(([setting, value]) => `${setting} ${value}\n`).join("");
  writeFileSync(staging(file), text);
  renameSync(staging(file), file);
}

/** Makes the host a router, as `recordRouter6` has written down. */
export function startForwarding6(file: string): void {
  if (!existsSync(file) || read("all/forwarding") !== "0") return;
  for (const [setting] of readRecord(file))
    if (isAcceptance(setting) && read(setting) === ACCEPT_RA.unlessRouter) write(setting, ACCEPT_RA.always);
  write("all/forwarding", "1");
}

/** Undoes `startForwarding6`. What was changed since then stays. Idempotent. */
export function restoreRouter6(file: string): void {
  rmSync(staging(file), { force: true });
  if (!existsSync(file)) return;
  if (read("all/forwarding") === "1") write("all/forwarding", "0");
  for (const [setting, before] of readRecord(file)) {
    const now = read(setting);
    if (now !== undefined && (!isAcceptance(setting) || now === ACCEPT_RA.always)) write(setting, before);
  }
  rmSync(file);
}

/** Returns the file that a killed helper may have left. */
function staging(file: string): string {
  return `${file}.new`;
}

function isAcceptance(setting: string): boolean {
  return setting.endsWith("/accept_ra");
}

function readRecord(file: string): [string, string][] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return lines.flatMap((line) => {
    const [setting, value] = line.split(" ");
    return setting === undefined || value === undefined ? [] : [[setting, value]];
  });
}

/** Returns a setting, if it exists: links come and go. */
function read(setting: string): string | undefined {
  try {
    return readFileSync(join(CONF, setting), "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function write(setting: string, value: string): void {
  try {
    writeFileSync(join(CONF, setting), `${value}\n`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // The link is gone.
  }
}
