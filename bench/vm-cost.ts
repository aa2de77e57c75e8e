/** Measures what one VM takes of the host; what it shares is counted as shared. */
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { HearthVm } from "#sdk/hearth.ts";

const STAT_BLOCK_BYTES = 512;
const KIB = 1024;

/** Its VMM's memory; of pages that n processes have, the n-th part. */
export async function pssBytes(vm: HearthVm): Promise<number> {
  const { pid } = await vm.show();
  return parsePss(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
}

/** proc_pid_smaps(5): the sum of all mappings is in the first `Pss:`. */
export function parsePss(rollup: string): number {
  const kib = /^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1];
  if (kib === undefined) throw new Error("This kernel does not know a process' share of memory.");
  return Number(kib) * KIB;
}

/** Returns the disk space of a VM's own files, without those that have a second name elsewhere. */
export async function ownDiskBytes(vm: HearthVm): Promise<number> {
  const { paths } = await vm.show();
  return [paths.state, paths.sockets].reduce((sum, dir) => sum + ownBytesIn(dir), 0);
}

/** Directories count, too. */
export function ownBytesIn(dir: string): number {
  let blocks = statSync(dir).blocks;
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    const stats = statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false });
    const shared = entry.isFile() && stats !== undefined && stats.nlink > 1;
    if (!shared) blocks += stats?.blocks ?? 0;
  }
  return blocks * STAT_BLOCK_BYTES;
}
