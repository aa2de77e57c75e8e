/** Core dumps of processes that hold what others must not read (core(5)). */
import { writeFileSync } from "node:fs";
import { isAlive } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";

/** In hexadecimal: a bit for each kind of memory that a dump has. */
const NO_MEMORY = "0";

/**
 * Leaves all memory out of the process's core dumps. A core limit of 0 does not do that alone: the kernel ignores it
 * when `core_pattern` is a pipe, and leaves it to the program there, such as systemd-coredump, to honour it.
 */
export function excludeMemoryFromDumps(process: ProcessRef): void {
  try {
    writeFileSync(`/proc/${process.pid}/coredump_filter`, NO_MEMORY, { flag: "r+" });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A kernel that makes no core dumps has no such file.
    if (code === "ENOENT" || !isAlive(process)) return;
    throw error;
  }
}
