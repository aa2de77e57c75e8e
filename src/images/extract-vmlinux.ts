/** Extracts the kernel, an ELF file, from a distribution's bzImage, for VMMs without a boot loader. */
import { createHash } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import type { Transform } from "node:stream";
import { HearthError, toError } from "#base/error.ts";
import type { FileHash } from "#host/hash-file.ts";
import { findPayload, unsupported } from "#images/bzimage.ts";
import type { BzImagePayload } from "#images/bzimage.ts";
import { unpackLz4Legacy } from "#images/lz4-legacy.ts";

/** Larger than Node's pieces of 16 KiB: a kernel has 50 MB and more. */
const CHUNK_BYTES = 1024 * 1024;
/** ELF, 64 bits, little endian. */
const ELF_IDENT = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
const ELF_MACHINE = 18;
const ELF_X86_64 = 62;

/**
 * Extracts the kernel to `target`, which must not exist yet, and syncs it. Data behind the ELF's own parts, such as the
 * table of relocations, is kept. Needs memory for the packed kernel and one piece of the unpacked one, about 25 MB.
 * After a failure the caller removes the partial file. Rejects with the signal's reason when aborted.
 * @throws HearthError `kernel.unsupported` with the reason
 */
export async function extractVmlinux(path: string, target: string, signal: AbortSignal): Promise<FileHash> {
  const payload = findPayload(await readFile(path, { signal }));
  await using file = await open(target, "wx", 0o644);
  try {
    const made = await unpackTo(file, payload, signal);
    await file.sync();
    return made;
  } catch (error) {
    signal.throwIfAborted();
    // Errors of the disk have the name of a system call; those of decoders do not.
    const { syscall } = error as NodeJS.ErrnoException;
    if (error instanceof HearthError || syscall !== undefined) throw error;
    throw unsupported(`its ${payload.packing} stream is damaged`, toError(error));
  }
}

async function unpackTo(file: FileHandle, payload: BzImagePayload, signal: AbortSignal): Promise<FileHash> {
  const { unpackedBytes } = payload;
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of unpack(payload)) {
    signal.throwIfAborted();
    if (sizeBytes === 0 && !isX86Elf(chunk)) throw unsupported("its content is not an ELF file for x86-64");
    sizeBytes += chunk.length;
    if (sizeBytes > unpackedBytes) break;
    hash.update(chunk);
    await file.writeFile(chunk);
  }
  if (sizeBytes === unpackedBytes) return { sha256: hash.digest("hex"), sizeBytes };
  const comparison = sizeBytes > unpackedBytes ? "more than" : `${sizeBytes} instead of`;
  throw unsupported(`it unpacks to ${comparison} the ${unpackedBytes} bytes of its header`);
}

async function* unpack({ packing, packed }: BzImagePayload): AsyncGenerator<Uint8Array, void, undefined> {
  if (packing === "lz4") return yield* unpackLz4Legacy(packed);
  const { createGunzip, createZstdDecompress } = await import("node:zlib");
  const options = { chunkSize: CHUNK_BYTES };
  const decoder: Transform = packing === "gzip" ? createGunzip(options) : createZstdDecompress(options);
  decoder.end(packed);
  for await (const chunk of decoder) yield chunk as Uint8Array;
}

function isX86Elf(start: Uint8Array): boolean {
  const bytes = Buffer.from(start.buffer, start.byteOffset, start.length);
  if (bytes.length < ELF_MACHINE + 2 || !bytes.subarray(0, ELF_IDENT.length).equals(ELF_IDENT)) return false;
  return bytes.readUInt16LE(ELF_MACHINE) === ELF_X86_64;
}
