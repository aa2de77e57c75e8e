/** Where a guest's memory lies: QEMU's own, or a file that was saved, which is mapped. */

/** `write`: the guest's memory is the file. `copy`: it begins as the file is, and what is written stays with the VM. */
export type MemoryFile = { readonly path: string; readonly map: "write" | "copy" };

/** The name under which QEMU saves it: the same for all that a saved memory is to fit. */
export const MEMORY_ID = "mem";

/** The first QEMU that maps a file which it may only read, and lets the guest write all the same. */
const READ_ONLY_VERSION_MIN = [8, 2] as const;

/** Pure. */
export function memoryArguments(
  memoryBytes: number,
  file: MemoryFile | undefined,
  readOnly: boolean,
): string[] {
  const common = `id=${MEMORY_ID},size=${memoryBytes}B`;
  if (file === undefined) return ["-object", `memory-backend-ram,${common}`];
  const path = `mem-path=${file.path.replaceAll(",", ",,")}`;
  const share = file.map === "write" ? "share=on" : "share=off";
  const mode = readOnly && file.map === "copy" ? ",readonly=on,rom=off" : "";
  return ["-object", `memory-backend-file,${common},${path},${share}${mode}`];
}

/**
 * Whether this QEMU maps a saved memory without the right to write to it. Older ones open the file for writing, so
 * that a VMM that was broken into could change what other VMs start from.
 */
export function mapsReadOnly(version: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [first, second] = READ_ONLY_VERSION_MIN;
  return major > first || (major === first && minor >= second);
}
