/**
 * Prepares the host for the networks of VMs, and restores it after the last one. A file beside the namespaces tells
 * whether Hearth made the host a router: tables of nftables are flushed by others at times.
 */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { allEnded } from "#base/all-ended.ts";
import { recordRouter6, restoreRouter6, startForwarding6 } from "#helper/ipv6-router.ts";
import { HOST_TABLE, hostProgram } from "#helper/nft-program.ts";
import { waitFileLock } from "#host/file-lock.ts";
import { listLinks } from "#host/link-counters.ts";
import { run, runOrThrow } from "#host/run.ts";
import { LINK_PREFIX } from "#model/inside-addresses.ts";

/** The time of one program that changes the network; it takes some milliseconds. */
export const TOOL_MS = 10_000;
export const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const LOCK_FILE = ".lock";
const ROUTER_FILES = { ipv4: ".router", ipv6: ".router6" } as const;

/** The parts of a VM's network that are made while nothing restores the host. */
export type NetworkParts<Result> = {
  /** Whether the host forwards IPv6 for the VM, too. */
  readonly ipv6: boolean;
  readonly makeLinks: () => Promise<void>;
  /** Called when the host forwards packets of VMs, and of nothing else if it forwarded none before. */
  readonly connect: () => Promise<Result>;
};

/**
 * Makes the parts of a VM's network, and the host a router for it.
 * @param dir contains the lock that every hearthd of the host takes
 */
export async function prepareHost<Result>(
  dir: string,
  { ipv6, makeLinks, connect }: NetworkParts<Result>,
  signal: AbortSignal,
): Promise<Result> {
  using _lock = await lock(dir, signal);
  const [table] = await allEnded([readTable(signal), makeLinks()]);
  const forwards = readFileSync(FORWARDING, "utf8").trim() !== "0";
  const madeRouter = routerFile(dir, "ipv4");
  const madeRouter6 = routerFile(dir, "ipv6");
  if (!forwards) writeFileSync(madeRouter, "");
  if (ipv6) recordRouter6(madeRouter6);
  const rules = hostProgram({ ipv4: existsSync(madeRouter), ipv6: existsSync(madeRouter6) });
  if (table?.includes(rules.version) !== true) await loadRules(rules.program, signal);
  if (!forwards) writeFileSync(FORWARDING, "1\n");
  if (ipv6) startForwarding6(madeRouter6);
  return await connect();
}

/** Undoes `prepareHost` if no VM has a network any more. Idempotent. */
export async function restoreHost(dir: string, signal: AbortSignal): Promise<void> {
  using _lock = await lock(dir, signal);
  const names = listLinks();
  if (names.some((name) => name.startsWith(LINK_PREFIX))) return;
  restoreRouter6(routerFile(dir, "ipv6"));
  const madeRouter = routerFile(dir, "ipv4");
  if (existsSync(madeRouter)) {
    writeFileSync(FORWARDING, "0\n");
    rmSync(madeRouter);
  }
  if ((await readTable(signal)) === undefined) return;
  await loadRules(`delete table ${HOST_TABLE}\n`, signal);
}

/**
 * Returns the file that exists if this host was no router before. Hosts that are containers may share the directory, so
 * it has the number of the network namespace.
 */
function routerFile(dir: string, family: keyof typeof ROUTER_FILES): string {
  return join(dir, `${ROUTER_FILES[family]}-${statSync("/proc/self/ns/net").ino}`);
}

/** Returns the host's table as nft(8) prints it, if it exists. */
async function readTable(signal: AbortSignal): Promise<string | undefined> {
  const [family = "", name = ""] = HOST_TABLE.split(" ");
  const listed = await run("nft", ["list", "table", family, name], { timeoutMs: TOOL_MS, signal });
  if (listed.ok) return listed.stdout;
  if (/No such file or directory/.test(listed.stderr)) return undefined;
  throw listed.error;
}

async function loadRules(program: string, signal: AbortSignal): Promise<void> {
  await runOrThrow("nft", ["-f", "-"], { input: program, timeoutMs: TOOL_MS, signal });
}

function lock(dir: string, signal: AbortSignal): Promise<Disposable> {
  return waitFileLock(join(dir, LOCK_FILE), () => {}, signal);
}
