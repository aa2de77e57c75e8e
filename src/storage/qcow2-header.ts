/** The header of a qcow2 file, docs/interop/qcow2.txt of QEMU: what it lies on, and what else it could reach. */
import { open } from "node:fs/promises";

const MAGIC = 0x514649fb;
/** What QEMU writes into the headers of our layers: the format of the one below, and names of its features. */
const BACKING_FORMAT = 0xe2792aca;
const FEATURE_NAMES = 0x6803f857;
const HEADER_BYTES = 104;
/** Headers of ours have some 600 bytes. */
const HEAD_MAX_BYTES = 64 * 1024;

/** What a layer that was made elsewhere has to be. */
export type LayerRule = {
  /** The name of the layer below, in the same folder, and its format. */
  readonly below: string;
  readonly belowFormat: "raw" | "qcow2";
  readonly maxBytes: number;
};

/**
 * Proves that a layer from elsewhere lies on nothing but the one below. QEMU opens whatever a header names: any
 * file that it can read, in any format, a file for the data, or a server.
 * @throws Error that begins with "it"
 */
export async function checkForeignLayer(path: string, rule: LayerRule): Promise<void> {
  const head = await readHead(path);
  if (head.length < HEADER_BYTES || head.readUInt32BE(0) !== MAGIC || head.readUInt32BE(4) !== 3)
    throw new Error("it is not a qcow2 file of version 3");
  if (head.readBigUInt64BE(24) > BigInt(rule.maxBytes)) throw new Error("its disk is too large");
  const isPlain =
    head.readUInt32BE(32) === 0 && head.readUInt32BE(60) === 0 && head.readBigUInt64BE(72) === 0n;
  if (!isPlain) throw new Error("it is encrypted, has snapshots in it, or needs features that ours do not");
  const nameAt = Number(head.readBigUInt64BE(8));
  const name = slice(head, nameAt, head.readUInt32BE(16)).toString("utf8");
  if (name !== rule.below)
    throw new Error(`it lies on ${JSON.stringify(name.slice(0, 80))}, not on ${rule.below}`);
  const format = readBackingFormat(head, head.readUInt32BE(100));
  if (format !== rule.belowFormat) throw new Error("it does not say which format it lies on");
}

async function readHead(path: string): Promise<Buffer> {
  await using file = await open(path, "r");
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
    else if (type !== FEATURE_NAMES) throw new Error(`it has a part of type 0x${type.toString(16)}`);
    at += 8 + Math.ceil(bytes / 8) * 8;
  }
}

function slice(head: Buffer, at: number, bytes: number): Buffer {
  const found = head.subarray(at, at + bytes);
  if (found.length !== bytes) throw new Error("its header is not whole");
  return found;
}
