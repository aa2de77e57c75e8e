/**
 * Checks the header of a qcow2 file (QEMU's docs/interop/qcow2.txt): its backing file, and everything else that it
 * could refer to.
 */
import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { GIB } from "#base/sizes.ts";
import { checkTables, CLUSTER_BITS } from "#storage/qcow2-tables.ts";
import type { TableHead } from "#storage/qcow2-tables.ts";

const MAGIC = 0x514649fb;
/** The header extensions that QEMU writes for Hearth: the backing file's format, and names of features. */
const BACKING_FORMAT = 0xe2792aca;
const FEATURE_NAMES = 0x6803f857;
const HEADER_BYTES = 104;
/** Headers that Hearth has QEMU write have some 600 bytes. */
const HEAD_MAX_BYTES = 64 * 1024;
/** A qcow2 has tables besides what a guest has written: less than a hundredth of it. */
const TABLES_MAX_BYTES = 2 * GIB;

/** The rules of a layer, whoever has written it. */
export type LayerRule = {
  /** The name of the layer below, in the same directory, and its format. */
  readonly below: string;
  readonly belowFormat: "raw" | "qcow2";
  /** The least size of the disk as the guest sees it: that of the layer below, as a disk never shrinks. */
  readonly minBytes?: number | undefined;
  readonly maxBytes: number;
};

/** The size of the disk and the position of the tables in a checked header. */
export type LayerHead = TableHead;

/**
 * Proves that a layer refers to nothing but the layer below, and that a copy of it takes no more than the layer has.
 * QEMU opens whatever a header names: any readable file, in any format, a data file, or a server.
 * @throws Error that begins with "it" or "its"
 */
export async function proveLayer(path: string, rule: LayerRule): Promise<LayerHead> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const head = checkHead(await readHead(file), rule);
  await checkTables(file, head, rule.maxBytes + TABLES_MAX_BYTES);
  return head;
}

/** Returns the size in the header, which a VMM may have written; 0 where no disk can have that size. */
export async function claimedSizeBytes(path: string, maxBytes: number): Promise<number> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  const head = await readHead(file);
  if (head.length < HEADER_BYTES || head.readUInt32BE(0) !== MAGIC) return 0;
  const sizeBytes = head.readBigUInt64BE(24);
  return sizeBytes > BigInt(maxBytes) ? 0 : Number(sizeBytes);
}

function checkHead(head: Buffer, { below, belowFormat, minBytes = 0, maxBytes }: LayerRule): LayerHead {
  if (head.length < HEADER_BYTES || head.readUInt32BE(0) !== MAGIC || head.readUInt32BE(4) !== 3)
    throw new Error("it is not a qcow2 file of version 3");
  const sizeBytes = head.readBigUInt64BE(24);
  if (sizeBytes > BigInt(maxBytes)) throw new Error("its disk is too large");
  if (sizeBytes < BigInt(minBytes)) throw new Error("its disk is smaller than that of the layer below");
  const isPlain =
    head.readUInt32BE(32) === 0 && head.readUInt32BE(60) === 0 && head.readBigUInt64BE(72) === 0n;
  if (!isPlain)
    throw new Error("it is encrypted, has snapshots in it, or needs features that Hearth does not use");
  const nameAt = Number(head.readBigUInt64BE(8));
  const name = slice(head, nameAt, head.readUInt32BE(16)).toString("utf8");
  if (name !== below)
    throw new Error(`its backing file is ${JSON.stringify(name.slice(0, 80))}, not ${below}`);
  const format = readBackingFormat(head, head.readUInt32BE(100));
  if (format !== belowFormat) throw new Error("it does not name the format of its backing file");
  if (head.readUInt32BE(20) !== CLUSTER_BITS) throw new Error("its cluster size is not the one of Hearth");
  const l1Offset = Number(head.readBigUInt64BE(40));
  return { sizeBytes: Number(sizeBytes), l1Entries: head.readUInt32BE(36), l1Offset };
}

async function readHead(file: FileHandle): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_MAX_BYTES), 0, HEAD_MAX_BYTES, 0);
  return buffer.subarray(0, bytesRead);
}

function readBackingFormat(head: Buffer, headerBytes: number): string | undefined {
  let format: string | undefined;
  for (let at = headerBytes; ;) {
    const extension = slice(head, at, 8);
    const type = extension.readUInt32BE(0);
    const bytes = extension.readUInt32BE(4);
    if (type === 0) return format;
    if (type === BACKING_FORMAT && format === undefined)
      format = slice(head, at + 8, bytes).toString("latin1");
    else if (type !== FEATURE_NAMES)
      throw new Error(`it has a header extension of type 0x${type.toString(16)}`);
    at += 8 + Math.ceil(bytes / 8) * 8;
  }
}

function slice(head: Buffer, at: number, bytes: number): Buffer {
  const found = head.subarray(at, at + bytes);
  if (found.length !== bytes) throw new Error("its header is incomplete");
  return found;
}
