/**
 * Runs programs that must not outlive hearthd. SIGKILL leaves hearthd no time to end what it has started, so the kernel
 * does, by the parent-death signal (prctl(2), PR_SET_PDEATHSIG): the program dies with this process, and as root also
 * everything that it has started and mounted.
 */
import { run } from "#host/run.ts";
import type { Run, RunOptions } from "#host/run.ts";

const DIES_WITH_PARENT = ["--pdeathsig", "KILL", "--"] as const;
/** A pid namespace ends with its first process; a mount namespace with its last. */
const WITH_DESCENDANTS = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"] as const;

/**
 * Runs a program that dies with this process, like `run`, for work of seconds. Call `requirePrograms` first: a missing
 * program is not reported as one.
 */
export const runWithDeathSignal: Run = (file, args, options) => {
  const isRoot = process.getuid?.() === 0;
  return run("setpriv", [...DIES_WITH_PARENT, ...(isRoot ? WITH_DESCENDANTS : []), file, ...args], options);
};

/** Runs like `runWithDeathSignal`, returns stdout and throws the error of a failure. */
export async function runWithDeathSignalOrThrow(
  file: string,
  args: readonly string[],
  options: RunOptions,
): Promise<string> {
  const result = await runWithDeathSignal(file, args, options);
  if (!result.ok) throw result.error;
  return result.stdout;
}
