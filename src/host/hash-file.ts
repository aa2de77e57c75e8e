import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

export type FileHash = {
  /** 64 hex digits. */
  readonly sha256: string;
  readonly sizeBytes: number;
};

const CHUNK_BYTES = 1024 * 1024;

/** Hashes the whole file, in bounded memory. Rejects with the signal's reason when aborted. */
export async function hashFile(path: string, signal: AbortSignal): Promise<FileHash> {
  const hash = createHash("sha256");
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let sizeBytes = 0;
  await using file = await open(path, "r");
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await file.read(chunk, 0, CHUNK_BYTES);
    if (bytesRead === 0) return { sha256: hash.digest("hex"), sizeBytes };
    hash.update(chunk.subarray(0, bytesRead));
    sizeBytes += bytesRead;
  }
}

/** Returns 64 hex digits. */
export function sha256(bytes: string | Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
