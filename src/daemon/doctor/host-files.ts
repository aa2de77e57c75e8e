import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Reads /proc and /sys, or a test's files below another directory. Small files only. */
export class HostFiles {
  readonly #root: string;

  constructor(root = "/") {
    this.#root = root;
  }

  /** Returns the text of a file, trimmed; undefined when it does not exist, or may not be read. */
  text(path: string): string | undefined {
    return unlessMissing(() => readFileSync(join(this.#root, path), "utf8").trim());
  }

  /** Returns the names in a directory, sorted; empty when there is no such directory. */
  names(path: string): string[] {
    return (unlessMissing(() => readdirSync(join(this.#root, path))) ?? []).toSorted();
  }
}

/**
 * Errors of files that a kernel does not have, or does not let everybody read. sysfs itself answers with EINVAL and
 * EIO.
 */
const ABSENT = new Set(["ENOENT", "ENOTDIR", "EACCES", "EPERM", "EINVAL", "EIO", "ENODEV"]);

function unlessMissing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (ABSENT.has((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
