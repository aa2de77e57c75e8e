import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** /proc and /sys as they are, or below a directory in which a test has put its own. Small files alone. */
export class HostFiles {
  readonly #root: string;

  constructor(root = "/") {
    this.#root = root;
  }

  /** Without blanks at both ends; undefined when there is no such file, or it is not for us to read. */
  text(path: string): string | undefined {
    return unlessMissing(() => readFileSync(join(this.#root, path), "utf8").trim());
  }

  /** The names in a directory, sorted; empty when there is no such directory. */
  names(path: string): string[] {
    return (unlessMissing(() => readdirSync(join(this.#root, path))) ?? []).toSorted();
  }
}

/** What a kernel does not have, and what it does not let everybody read. EINVAL and EIO are sysfs' own words. */
const ABSENT = new Set(["ENOENT", "ENOTDIR", "EACCES", "EPERM", "EINVAL", "EIO", "ENODEV"]);

function unlessMissing<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (ABSENT.has((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
