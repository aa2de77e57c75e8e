/**
 * Prepares the host for the networks of VMs, and restores it after the last one. What Hearth changed is read from the
 * kernel: its own table, in which the chain `router` exists if the host was no router before.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HOST_TABLE, hostProgram, ROUTER_CHAIN } from "#helper/nft-program.ts";
import { waitFileLock } from "#host/file-lock.ts";
import { run, runOrThrow } from "#host/run.ts";
import { LINK_PREFIX } from "#model/inside-addresses.ts";

/** The time of one program that changes the network; it takes some milliseconds. */
export const TOOL_MS = 10_000;
export const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const LOCK_FILE = ".lock";

/**
 * Makes the host forward packets of VMs, and of nothing else if it forwarded none before, and connects a VM. Nothing
 * restores the host in between.
 * @param dir contains the lock that every hearthd of the host takes
 */
export async function prepareHost<Result>(
  dir: string,
  connect: () => Promise<Result>,
  signal: AbortSignal,
): Promise<Result> {
  using _lock = await lock(dir, signal);
  const forwards = readFileSync(FORWARDING, "utf8").trim() !== "0";
  const madeRouter = !forwards || (await readTable(signal))?.includes(ROUTER_CHAIN) === true;
  await loadRules(hostProgram(madeRouter), signal);
  if (!forwards) writeFileSync(FORWARDING, "1\n");
  return await connect();
}

/** Undoes `prepareHost` if no VM has a network any more. Idempotent. */
export async function restoreHost(dir: string, signal: AbortSignal): Promise<void> {
  using _lock = await lock(dir, signal);
  const links = await runOrThrow("ip", ["-o", "link", "show", "type", "veth"], {
    timeoutMs: TOOL_MS,
    signal,
  });
  if (links.includes(`: ${LINK_PREFIX}`)) return;
  const table = await readTable(signal);
  if (table === undefined) return;
  if (table.includes(ROUTER_CHAIN)) writeFileSync(FORWARDING, "0\n");
  await loadRules(`delete table ${HOST_TABLE}\n`, signal);
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
