/**
 * Programs that must not outlive us. SIGKILL gives us no time to end what we have started, so the kernel is
 * asked to: what runs here dies with this process, and as root also all that it has started and mounted.
 */
import { run } from "#host/run.ts";
import type { Run, RunOptions } from "#host/run.ts";

const DIES_WITH_US = ["--pdeathsig", "KILL", "--"] as const;
/** A process name space ends with its first process; a mount name space with its last. */
const WITH_ALL_IT_STARTS = ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"] as const;

/** Like `run`, for work of seconds. Ask `requirePrograms` first: a missing program is not told apart here. */
export const runBound: Run = (file, args, options) => {
  const isRoot = process.getuid?.() === 0;
  return run("setpriv", [...DIES_WITH_US, ...(isRoot ? WITH_ALL_IT_STARTS : []), file, ...args], options);
};

/** For callers with nothing of their own to say about a failure. */
export async function runBoundOrThrow(
  file: string,
  args: readonly string[],
  options: RunOptions,
): Promise<string> {
  const result = await runBound(file, args, options);
  if (!result.ok) throw result.error;
  return result.stdout;
}
