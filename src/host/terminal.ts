import { readlinkSync } from "node:fs";
import { run } from "#host/run.ts";

const TIMEOUT_MS = 2_000;

/**
 * Lets what is printed on this process' terminal through as it is, for when the newlines are somebody else's:
 * Node's raw mode goes on to make CR LF of every LF, which moves a full-screen program's cursor. Leaving raw
 * mode sets the terminal back.
 *
 * A terminal that cannot be set stays usable, so that is no error.
 * @param fd one that is the terminal.
 */
export async function printAsIs(fd: number, signal: AbortSignal): Promise<void> {
  await run("stty", ["-F", readlinkSync(`/proc/self/fd/${fd}`), "-opost"], { timeoutMs: TIMEOUT_MS, signal });
}
