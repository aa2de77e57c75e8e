/** Parses the outer layer of an x86 kernel: a boot sector, a setup header, and the packed kernel as its payload. */
import { HearthError } from "#base/error.ts";
import { formatSize } from "#base/sizes.ts";
import { LZ4_LEGACY_MAGIC } from "#images/lz4-legacy.ts";

/** Offsets in the setup header, from the kernel's Documentation/arch/x86/boot.rst. */
const SETUP_SECTORS = 0x1f1;
const MAGIC = 0x202;
const PROTOCOL = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_BYTES = 0x24c;
const HEADER_END = 0x250;
const SECTOR_BYTES = 512;
/** The first boot protocol with payload offset and length: 2.08. */
const PROTOCOL_MIN = 0x0208;
/** The number of setup sectors that 0 in the header means. */
const SETUP_SECTORS_DEFAULT = 4;
/** The largest distribution kernels unpack to a tenth of it; a larger size is refused as a lie. */
const UNPACKED_MAX_BYTES = 512 * 1024 * 1024;

const ZSTD_MAGIC = 0xfd2fb528;

export type Packing = "gzip" | "lz4" | "zstd";

export type BzImagePayload = {
  readonly packing: Packing;
  /** The packed stream, in the form that its decoder reads. A view on the image. */
  readonly packed: Uint8Array;
  readonly unpackedBytes: number;
};

/**
 * Finds the packed kernel by the header. A search for magic numbers could find one that occurs by chance.
 * @throws HearthError `kernel.unsupported`
 */
export function findPayload(image: Buffer): BzImagePayload {
  if (image.length < HEADER_END || image.toString("latin1", MAGIC, MAGIC + 4) !== "HdrS")
    throw unsupported("it is not an x86 bzImage");
  if (image.readUInt16LE(PROTOCOL) < PROTOCOL_MIN) throw unsupported("its boot protocol is older than 2.08");
  const sectors = image.readUInt8(SETUP_SECTORS) || SETUP_SECTORS_DEFAULT;
  const start = (sectors + 1) * SECTOR_BYTES + image.readUInt32LE(PAYLOAD_OFFSET);
  const end = start + image.readUInt32LE(PAYLOAD_BYTES);
  if (end > image.length || end - start < 8) throw unsupported("its payload is outside of the file");
  const unpackedBytes = image.readUInt32LE(end - 4);
  if (unpackedBytes === 0 || unpackedBytes > UNPACKED_MAX_BYTES)
    throw unsupported(`its unpacked size would be ${formatSize(unpackedBytes)}`);
  const packing = packingOf(image.subarray(start, end));
  // The size follows the stream, except with gzip, whose stream contains it.
  return { packing, packed: image.subarray(start, packing === "gzip" ? end : end - 4), unpackedBytes };
}

function packingOf(payload: Buffer): Packing {
  const magic = payload.readUInt32LE(0);
  if (magic === ZSTD_MAGIC) return "zstd";
  if (magic === LZ4_LEGACY_MAGIC) return "lz4";
  if ((magic & 0xffff) === 0x8b1f) return "gzip";
  const hex = payload.toString("hex", 0, 6);
  const name = REFUSED.find(([start]) => hex.startsWith(start))?.[1];
  throw unsupported(
    name === undefined ? `its payload begins with unknown bytes, ${hex}` : `it is compressed with ${name}`,
  );
}

/** Other compressions of kernels, which no supported distribution uses for x86 any more. */
const REFUSED: readonly (readonly [hex: string, name: string])[] = [
  ["fd377a585a00", "xz"],
  ["425a68", "bzip2"],
  ["5d0000", "LZMA"],
  ["894c5a4f", "LZO"],
];

/** @param reason continues "The kernel cannot be unpacked:" */
export function unsupported(reason: string, cause?: unknown): HearthError {
  const hint = "Use a kernel that is compressed with zstd, LZ4 or gzip, as those of Debian and Ubuntu are.";
  return new HearthError("kernel.unsupported", `Cannot unpack the kernel: ${reason}.`, { hint, cause });
}
