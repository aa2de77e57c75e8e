/**
 * Chooses where a guest's memory is: in QEMU's own memory, or in a file.
 *
 * A file that several VMs map is never open for writing in any of their VMMs. A private mapping alone does not protect
 * it: a balloon that inflates punches holes into the file, and a VMM that was taken over has its descriptor. QEMU maps
 * a read-only file copy-on-write since 8.2. An older QEMU gets a copy that belongs to its VM alone.
 */

export type MemoryFile = {
  readonly path: string;
  /**
   * `draft`: guest memory is written to the file, which becomes a guest memory file. `shared`: other VMs map the file
   * as well; it is opened read-only, and writes stay with the VM. `own`: a copy for this VM; writes to memory stay out
   * of it, and memory that the guest gives back becomes a hole in it.
   */
  readonly map: "draft" | "shared" | "own";
};

/** The name of the memory in what QEMU saves. It has to be equal where that is loaded. */
export const MEMORY_ID = "mem";

/** The first QEMU that maps a read-only file copy-on-write. */
const READ_ONLY_VERSION_MIN = [8, 2] as const;

const MODES: Readonly<Record<MemoryFile["map"], string>> = {
  draft: "share=on",
  shared: "share=off,readonly=on,rom=off",
  own: "share=off",
};

/** Returns the arguments of the guest's memory. Pure. */
export function memoryArguments(memoryBytes: number, file: MemoryFile | undefined): string[] {
  const common = `id=${MEMORY_ID},size=${memoryBytes}B`;
  if (file === undefined) return ["-object", `memory-backend-ram,${common}`];
  const path = `mem-path=${file.path.replaceAll(",", ",,")}`;
  return ["-object", `memory-backend-file,${common},${path},${MODES[file.map]}`];
}

/** Tells whether this QEMU can map a guest memory file that it has open read-only. */
export function mapsReadOnly(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [first, second] = READ_ONLY_VERSION_MIN;
  return major > first || (major === first && minor >= second);
}
