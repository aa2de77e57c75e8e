/**
 * Headers of tar archives (POSIX ustar, pax, and GNU's long names), with names as bytes. The tar-stream package, which
 * reads Hearth's other archives, decodes names as UTF-8, which can make different names equal.
 */
import { bytePathOf, rawPath } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";

export const BLOCK_BYTES = 512;
/** The two zero blocks at the end of an archive. */
export const TAR_END = Buffer.alloc(2 * BLOCK_BYTES);

export type TarType =
  "file" | "link" | "symlink" | "character device" | "block device" | "directory" | "FIFO" | "unknown";

export type TarHeader = {
  readonly name: BytePath;
  readonly type: TarType;
  readonly size: number;
  readonly mode: number;
  readonly mtimeS: number;
  /** The target of a link; empty for all other types. */
  readonly linkname: BytePath;
};

/** The records of a pax header, with values as bytes. */
export type PaxRecords = ReadonlyMap<string, BytePath>;

/** A header block before a pax header's records have been applied. */
export type RawHeader = TarHeader & { readonly flag: string };

const TYPES: Readonly<Record<string, TarType>> = {
  "\0": "file",
  "0": "file",
  "1": "link",
  "2": "symlink",
  "3": "character device",
  "4": "block device",
  "5": "directory",
  "6": "FIFO",
  "7": "file",
};
const FLAGS = new Map(Object.entries(TYPES).map(([flag, type]) => [type, flag]));
FLAGS.set("file", "0");

/** Offset and length of the fields in a header block. */
const FIELDS = {
  name: [0, 100],
  mode: [100, 8],
  uid: [108, 8],
  gid: [116, 8],
  size: [124, 12],
  mtime: [136, 12],
  checksum: [148, 8],
  flag: [156, 1],
  linkname: [157, 100],
  magic: [257, 8],
  prefix: [345, 155],
} as const;

/** Returns the blocks of one header. The owner is root, whoever owns the file on the host. */
export function tarHeader(header: TarHeader): Buffer {
  const long: [string, BytePath | string][] = [];
  if (header.name.length > FIELDS.name[1]) long.push(["path", header.name]);
  if (header.linkname.length > FIELDS.linkname[1]) long.push(["linkpath", header.linkname]);
  if (header.size >= 8 ** 11) long.push(["size", String(header.size)]);
  if (header.mtimeS < 0 || header.mtimeS >= 8 ** 11) long.push(["mtime", String(header.mtimeS)]);
  const plain = block(header, FLAGS.get(header.type) ?? "0");
  if (long.length === 0) return plain;
  const records = Buffer.concat(long.map(([key, value]) => paxRecord(key, value)));
  const pax = { ...header, name: "pax" as BytePath, linkname: "" as BytePath, size: records.byteLength };
  return Buffer.concat([block(pax, "x"), records, tarPadding(records.byteLength), plain]);
}

/** Returns the zeros that fill content of `size` bytes up to a whole block. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
}

function block(header: TarHeader, flag: string): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES);
  const put = ([at, length]: readonly [number, number], value: Buffer): void => {
    value.copy(bytes, at, 0, Math.min(length, value.byteLength));
  };
  const octal = (field: readonly [number, number], value: number): void => {
    const digits = Math.trunc(value >= 0 && value < 8 ** (field[1] - 1) ? value : 0).toString(8);
    put(field, Buffer.from(`${digits.padStart(field[1] - 1, "0")}\0`));
  };
  put(FIELDS.name, rawPath(header.name));
  octal(FIELDS.mode, header.mode);
  octal(FIELDS.uid, 0);
  octal(FIELDS.gid, 0);
  octal(FIELDS.size, header.size);
  octal(FIELDS.mtime, header.mtimeS);
  put(FIELDS.flag, Buffer.from(flag));
  put(FIELDS.linkname, rawPath(header.linkname));
  put(FIELDS.magic, Buffer.from("ustar\x0000"));
  put(FIELDS.checksum, Buffer.from(`${checksumOf(bytes).toString(8).padStart(6, "0")}\0 `));
  return bytes;
}

function paxRecord(key: string, value: string): Buffer {
  const record = Buffer.from(` ${key}=${value}\n`, "latin1");
  let length = record.byteLength;
  while (String(length).length + record.byteLength !== length)
    length = String(length).length + record.byteLength;
  return Buffer.concat([Buffer.from(String(length)), record]);
}

/** Parses a header block; undefined for a zero block. @throws Error for a block that is not a header. */
export function readTarHeader(bytes: Buffer): RawHeader | undefined {
  if (bytes.every((byte) => byte === 0)) return undefined;
  const raw = ([at, length]: readonly [number, number]): Buffer => bytes.subarray(at, at + length);
  if (numberIn(raw(FIELDS.checksum)) !== checksumOf(bytes)) throw new Error("its checksum is wrong");
  const flag = bytePathOf(raw(FIELDS.flag));
  // GNU's format stores other fields in the prefix.
  const hasPrefix = raw(FIELDS.magic).subarray(0, 6).equals(Buffer.from("ustar\0"));
  const prefix = hasPrefix ? textIn(raw(FIELDS.prefix)) : "";
  const name = textIn(raw(FIELDS.name));
  return {
    flag,
    type: TYPES[flag] ?? "unknown",
    name: (prefix === "" ? name : `${prefix}/${name}`) as BytePath,
    size: numberIn(raw(FIELDS.size)),
    mode: numberIn(raw(FIELDS.mode)),
    mtimeS: numberIn(raw(FIELDS.mtime)),
    linkname: textIn(raw(FIELDS.linkname)),
  };
}

/** Parses the records of a pax header. @throws Error if one is malformed. */
export function readPaxRecords(bytes: Buffer): PaxRecords {
  const records = new Map<string, BytePath>();
  for (let at = 0; at < bytes.byteLength && bytes[at] !== 0;) {
    const space = bytes.indexOf(" ", at);
    const digits = bytes.toString("latin1", at, Math.max(space, at));
    const end = at + Number(digits);
    const equals = bytes.indexOf("=", space);
    if (!/^\d{1,9}$/.test(digits) || end > bytes.byteLength || equals < 0 || equals >= end)
      throw new Error("one of its pax records is broken");
    records.set(bytes.toString("latin1", space + 1, equals), bytePathOf(bytes.subarray(equals + 1, end - 1)));
    at = end;
  }
  return records;
}

/** Applies the records of a pax header. */
export function withPaxRecords(header: RawHeader, records: PaxRecords): RawHeader {
  const size = records.get("size");
  const mtime = records.get("mtime");
  return {
    ...header,
    name: records.get("path") ?? header.name,
    linkname: records.get("linkpath") ?? header.linkname,
    size: size === undefined ? header.size : Number(size),
    mtimeS: mtime === undefined ? header.mtimeS : Number(mtime),
  };
}

/** Returns a field's text, which ends at the first NUL or with the field. */
export function textIn(field: Buffer): BytePath {
  const end = field.indexOf(0);
  return bytePathOf(end === -1 ? field : field.subarray(0, end));
}

/** Parses octal digits, or a binary number if the first bit is set. NaN for anything else. */
function numberIn(field: Buffer): number {
  const first = field[0] ?? 0;
  if (first === 0x80) return Number(BigInt(`0x${field.subarray(1).toString("hex")}`));
  const digits = textIn(field).trim();
  if (digits === "") return 0;
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number.NaN;
}

/** Computes a header's checksum, with the checksum field taken as spaces. */
function checksumOf(bytes: Buffer): number {
  const [at, length] = FIELDS.checksum;
  let sum = length * 0x20;
  for (let i = 0; i < bytes.byteLength; i++) if (i < at || i >= at + length) sum += bytes[i] ?? 0;
  return sum;
}
