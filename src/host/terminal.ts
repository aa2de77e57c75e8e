import { readlinkSync } from "node:fs";
import { run } from "#host/run.ts";

const TIMEOUT_MS = 2_000;

/**
 * Turns off the output processing of this process's terminal, for output whose line breaks a guest has already
 * converted. Node's raw mode keeps the conversion of LF to CR LF, which moves the cursor of a full-screen program.
 * Leaving raw mode restores the terminal. A terminal that cannot be set stays usable, so this throws no error for it.
 * @param fd an open file of the terminal
 */
export async function printAsIs(fd: number, signal: AbortSignal): Promise<void> {
  await run("stty", ["-F", readlinkSync(`/proc/self/fd/${fd}`), "-opost"], { timeoutMs: TIMEOUT_MS, signal });
}
