/**
 * Checks the tables of a qcow2 file (QEMU's docs/interop/qcow2.txt), which map the guest's disk to clusters of the
 * file.
 */
import type { FileHandle } from "node:fs/promises";

/** The position of the tables in the file, from the header. */
export type TableHead = {
  readonly sizeBytes: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
};

export const CLUSTER_BITS = 16;
const CLUSTER_BYTES = 2 ** CLUSTER_BITS;
const ENTRIES = CLUSTER_BYTES / 8;
/** The part of the disk that one second-level table describes: 512 MiB. */
const TABLE_BYTES = ENTRIES * CLUSTER_BYTES;
/**
 * Bits of the upper half of an entry: 63 is COPIED, 62 compressed, 61 to 56 reserved; the rest is the cluster's offset.
 */
const COMPRESSED = 0x4000_0000;
const RESERVED = 0x3f00_0000;
const OFFSET_HIGH = 0x00ff_ffff;
/**
 * Bits of the lower half: 0 says that the cluster reads as zeros, 8 to 1 are reserved, 15 to 9 are 0 in an aligned
 * offset.
 */
const UNALIGNED = 0xfffe;
const ALIGNED = 0xffff_0000;
/** More than the largest disk needs, and no more than one cluster has room for. */
const L1_MAX_ENTRIES = 4096;

/**
 * Proves that no two parts of the disk share a cluster and that none is compressed, so that a copy of the disk takes no
 * more than the file itself. Any other file could grow a thousandfold when it is copied.
 * @throws Error that begins with "it"
 */
export async function checkTables(file: FileHandle, head: TableHead, fileMaxBytes: number): Promise<void> {
  const needed = Math.ceil(head.sizeBytes / TABLE_BYTES);
  if (head.l1Entries < needed || head.l1Entries > L1_MAX_ENTRIES)
    throw new Error("the size of a table does not match the disk");
  const used = new ClusterSet(fileMaxBytes);
  const l1 = await readTable(file, used.take(head.l1Offset), head.l1Entries);
  for (let index = 0; index < head.l1Entries; index++) {
    const at = clusterOf(l1, index);
    if (at === 0) continue;
    const l2 = await readTable(file, used.take(at), ENTRIES);
    for (let entry = 0; entry < ENTRIES; entry++) {
      const data = clusterOf(l2, entry);
      if (data !== 0) used.take(data);
    }
  }
}

/** Reads a table. Entries beyond the end of the file were never written, and are zeros. */
async function readTable(file: FileHandle, at: number, entries: number): Promise<Buffer> {
  const table = Buffer.alloc(entries * 8);
  await file.read(table, 0, table.length, at);
  return table;
}

function clusterOf(table: Buffer, index: number): number {
  const high = table.readUInt32BE(index * 8);
  const low = table.readUInt32BE(index * 8 + 4);
  if ((high & COMPRESSED) !== 0) throw new Error("it has compressed clusters");
  if ((high & RESERVED) !== 0 || (low & UNALIGNED) !== 0) throw new Error("its tables are damaged");
  return (high & OFFSET_HIGH) * 2 ** 32 + ((low & ALIGNED) >>> 0);
}

/** The clusters that were seen, one bit each. */
class ClusterSet {
  readonly #bits: Uint8Array;
  readonly #fileMaxBytes: number;

  constructor(fileMaxBytes: number) {
    this.#fileMaxBytes = fileMaxBytes;
    this.#bits = new Uint8Array(Math.ceil(fileMaxBytes / CLUSTER_BYTES / 8) + 1);
  }

  take(offset: number): number {
    if (offset % CLUSTER_BYTES !== 0 || offset === 0 || offset >= this.#fileMaxBytes)
      throw new Error("its tables name a cluster outside of the file");
    const cluster = offset / CLUSTER_BYTES;
    const [at, bit] = [cluster >>> 3, 1 << (cluster & 7)];
    if (((this.#bits[at] ?? 0) & bit) !== 0) throw new Error("it uses one cluster twice");
    this.#bits[at] = (this.#bits[at] ?? 0) | bit;
    return offset;
  }
}
