import { stat } from "node:fs/promises";
import { hashFile } from "#host/hash-file.ts";
import { SharedWork } from "#base/shared-work.ts";

export type Expected = {
  readonly sha256: string;
  readonly sizeBytes: number;
  /** The result of `statFingerprint` when the file was hashed, stored with the hash. */
  readonly fingerprint?: string | undefined;
};

/** Makes the error. `ref` names the owner of the file; `reason` begins with "it". */
export type DescribeCorrupt = (path: string, ref: string, reason: string) => Error;

/**
 * Verifies files against their manifest. The whole file is hashed at its first use, and again when its size, times or
 * inode have changed; otherwise a stat(2) is enough.
 */
export class VerifiedFiles {
  /** The hash and the stat fingerprint of each verified file, by path. */
  readonly #seen = new Map<string, { readonly sha256: string; readonly fingerprint: string }>();
  readonly #hashing = new SharedWork<void>();
  readonly #corrupt: DescribeCorrupt;

  constructor(corrupt: DescribeCorrupt) {
    this.#corrupt = corrupt;
  }

  /** @throws the error that `corrupt` makes; nothing is deleted or changed */
  async check(path: string, expected: Expected, ref: string, signal: AbortSignal): Promise<void> {
    const now = await statFingerprint(path);
    if (now === undefined) throw this.#corrupt(path, ref, "it is missing");
    const seen = this.#seen.get(path);
    if (now === expected.fingerprint || (seen?.fingerprint === now && seen.sha256 === expected.sha256))
      return;
    const key = `${path} ${expected.sha256}`;
    await this.#hashing.join(key, (_, shared) => this.#hash(path, expected, ref, shared), ignore, signal);
  }

  /** Records a file that the caller has just written and hashed. */
  async trust(path: string, sha256: string): Promise<void> {
    const now = await statFingerprint(path);
    if (now !== undefined) this.#seen.set(path, { sha256, fingerprint: now });
  }

  async #hash(path: string, expected: Expected, ref: string, signal: AbortSignal): Promise<void> {
    // Taken first, so that a change during the hash shows at the next use.
    const before = await statFingerprint(path);
    const found = await hashFile(path, signal);
    if (found.sizeBytes !== expected.sizeBytes) {
      throw this.#corrupt(path, ref, `it has ${found.sizeBytes} bytes instead of ${expected.sizeBytes}`);
    }
    if (found.sha256 !== expected.sha256)
      throw this.#corrupt(path, ref, "its content has changed since it was built");
    if (before !== undefined) this.#seen.set(path, { sha256: found.sha256, fingerprint: before });
  }
}

/**
 * Returns a file's stat fingerprint, or undefined if it does not exist. A program that changes the content cannot reset
 * the inode's change time.
 */
export async function statFingerprint(path: string): Promise<string | undefined> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function ignore(): void {
  // Reports no progress: hashing takes less time than a report.
}
