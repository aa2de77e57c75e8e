import { stat } from "node:fs/promises";
import { hashFile } from "#host/hash-file.ts";
import { SharedWork } from "#base/shared-work.ts";

export type Expected = {
  readonly sha256: string;
  readonly sizeBytes: number;
  /** Of `fileStamp` when it was hashed, by who kept both. */
  readonly stamp?: string | undefined;
};

/** What is thrown; `ref` names what the file belongs to, `reason` begins with "it". */
export type DescribeCorrupt = (path: string, ref: string, reason: string) => Error;

/**
 * Proves that files are what their manifest says. The whole file is read when it is first used, and again
 * when its size, times or inode have changed since; otherwise a stat(2) is the proof.
 */
export class VerifiedFiles {
  /** By path: the hash that was seen, and what stat(2) said then. */
  readonly #seen = new Map<string, { readonly sha256: string; readonly stamp: string }>();
  readonly #hashing = new SharedWork<void>();
  readonly #corrupt: DescribeCorrupt;

  constructor(corrupt: DescribeCorrupt) {
    this.#corrupt = corrupt;
  }

  /** @throws what `corrupt` has made; nothing is deleted or changed. */
  async check(path: string, expected: Expected, ref: string, signal: AbortSignal): Promise<void> {
    const now = await fileStamp(path);
    if (now === undefined) throw this.#corrupt(path, ref, "it is missing");
    const seen = this.#seen.get(path);
    if (now === expected.stamp || (seen?.stamp === now && seen.sha256 === expected.sha256)) return;
    const key = `${path} ${expected.sha256}`;
    await this.#hashing.join(key, (_, shared) => this.#hash(path, expected, ref, shared), ignore, signal);
  }

  /** For who has just written and hashed the file. */
  async trust(path: string, sha256: string): Promise<void> {
    const now = await fileStamp(path);
    if (now !== undefined) this.#seen.set(path, { sha256, stamp: now });
  }

  async #hash(path: string, expected: Expected, ref: string, signal: AbortSignal): Promise<void> {
    // Taken first: a change while we read then shows at the next use.
    const before = await fileStamp(path);
    const found = await hashFile(path, signal);
    if (found.sizeBytes !== expected.sizeBytes) {
      throw this.#corrupt(path, ref, `it has ${found.sizeBytes} bytes instead of ${expected.sizeBytes}`);
    }
    if (found.sha256 !== expected.sha256)
      throw this.#corrupt(path, ref, "its content has changed since it was built");
    if (before !== undefined) this.#seen.set(path, { sha256: found.sha256, stamp: before });
  }
}

/** Undefined when there is no file. The inode's own time cannot be set back by who changed the content. */
export async function fileStamp(path: string): Promise<string | undefined> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function ignore(): void {
  // Hashing takes less time than telling about it would.
}
