import { findProcess, listCommands } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";

/** Finds processes of `program` (the file name of argv[0]) with a file in one of `dirs` on their command line. */
export function findProcessesNaming(dirs: readonly string[], program: RegExp): ProcessRef[] {
  const found: ProcessRef[] = [];
  for (const { pid, argv } of listCommands()) {
    const name = (argv[0] ?? "").replace(/^.*\//, "");
    if (!program.test(name)) continue;
    if (!argv.some((argument) => dirs.some((dir) => argument.includes(`${dir}/`)))) continue;
    const ref = findProcess(pid);
    if (ref !== undefined) found.push(ref);
  }
  return found;
}
