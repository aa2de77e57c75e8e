/** How a process has files open, as the kernel tells it: its descriptors, its mappings, and the mounts that it sees. */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import type { Stats } from "node:fs";
import { readMounts } from "#host/mounts.ts";

/** open(2): the part of the flags with the access mode; 0 is reading alone. */
const O_ACCMODE = 0o3;

export class OpenFiles {
  readonly #proc: string;

  /** @param pid a process that this one may look at */
  constructor(pid: number) {
    this.#proc = `/proc/${pid}`;
  }

  /** Each way in which the process could change this file without opening it again, in words. */
  writersOf(path: string): string[] {
    const file = statSync(path);
    return [...this.#descriptors(file), ...this.#mappings(file)];
  }

  /** Whether the process has the file at all: as a descriptor or a mapping. */
  uses(path: string): boolean {
    const file = statSync(path);
    const mapped = this.#maps(file).length > 0;
    return mapped || this.#fds().some((fd) => isSame(this.#stat(`fd/${fd}`), file));
  }

  /**
   * Each place where the process sees this file and could open it for writing, as far as mounts decide: this process
   * tries it, whose rights are no smaller. What lies in a directory that is mounted as a whole is found by its path.
   */
  writablePlaces(path: string): string[] {
    const file = statSync(path);
    const places = new Set([path, ...readMounts(`${this.#proc}/mountinfo`).map(({ point }) => point)]);
    return [...places].filter((place) => this.#canOpen(`${this.#proc}/root${place}`, file));
  }

  #canOpen(path: string, file: Stats): boolean {
    try {
      if (!isSame(statSync(path), file)) return false;
      closeSync(openSync(path, "r+"));
      return true;
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (["ENOENT", "ENOTDIR", "EROFS", "EACCES"].includes(code)) return false;
      throw error;
    }
  }

  #descriptors(file: Stats): string[] {
    return this.#fds().flatMap((fd) => {
      if (!isSame(this.#stat(`fd/${fd}`), file)) return [];
      const flags = /^flags:\s+0?(\d+)$/m.exec(readFileSync(`${this.#proc}/fdinfo/${fd}`, "utf8"))?.[1] ?? "";
      return (Number.parseInt(flags, 8) & O_ACCMODE) === 0
        ? []
        : [`descriptor ${fd} with the flags 0${flags}`];
    });
  }

  /** A shared mapping that may be written to, or be made so. */
  #mappings(file: Stats): string[] {
    return this.#maps(file).flatMap((line) => {
      const [range, access = ""] = line.split(" ");
      return access.startsWith("s", 3) && access.includes("w") ? [`mapping ${range} with ${access}`] : [];
    });
  }

  #maps({ ino }: Stats): string[] {
    const lines = readFileSync(`${this.#proc}/maps`, "utf8").split("\n");
    return lines.filter((line) => line.split(/ +/, 5)[4] === String(ino));
  }

  #fds(): string[] {
    return readdirSync(`${this.#proc}/fd`);
  }

  #stat(name: string): Stats | undefined {
    return statSync(`${this.#proc}/${name}`, { throwIfNoEntry: false });
  }
}

function isSame(one: Stats | undefined, other: Stats): boolean {
  return one !== undefined && one.ino === other.ino && one.dev === other.dev;
}

/** Returns the open files of a process, without those that it closes meanwhile, as it does while it loads libraries. */
export function openFilesOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  });
}
