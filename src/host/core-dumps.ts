/** Keeps secrets out of core dumps (core(5)). */
import { writeFileSync } from "node:fs";
import { isAlive } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";

/** A hexadecimal mask with one bit for each kind of memory in a dump. */
const NO_MEMORY = "0";

/**
 * Leaves all memory out of the process's core dumps. A core limit of 0 alone does not do that: the kernel ignores it
 * when `core_pattern` is a pipe, and the program there, such as systemd-coredump, has to honour it.
 */
export function excludeMemoryFromDumps(process: ProcessRef): void {
  try {
    writeFileSync(`/proc/${process.pid}/coredump_filter`, NO_MEMORY, { flag: "r+" });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // The file is missing in a kernel without core dumps.
    if (code === "ENOENT" || !isAlive(process)) return;
    throw error;
  }
}
