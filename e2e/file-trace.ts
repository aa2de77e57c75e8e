/**
 * Reads what hearthd and its tools do to files from a log of strace, and tells what a power cut could take. The model:
 * data is on the disk after an fsync of its file, and a name is there after an fsync of its directory.
 * File systems promise more; POSIX does not.
 */
import { basename, dirname, resolve } from "node:path";

/** An effect on the files of one process, in the order in which they came to an end. */
export type FileEvent =
  | { readonly kind: "created" | "synced" | "removed"; readonly path: string; readonly by: string }
  | { readonly kind: "written"; readonly path: string; readonly by: string; readonly at?: number | undefined }
  | { readonly kind: "renamed" | "linked"; readonly path: string; readonly to: string; readonly by: string };

/** System calls that change files or names, or sync them. Every write of a guest would be too many with `write`. */
export const TRACED =
  "openat,open,creat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,truncate,fallocate,pwrite64,pwritev,pwritev2,copy_file_range,fsync,fdatasync,chdir,fchdir";

/** `[pid 7<node>] rename("a", "b") = 0`; a call that was interrupted by others is put together again. */
const LINE = /^(?:\[pid\s+)?(\d+)<([^>]*)>\]? +(.*)$/;

/** Reads the output of `strace -f -y -Y`. */
export function parseTrace(text: string): FileEvent[] {
  const pending = new Map<string, string>();
  const events: FileEvent[] = [];
  for (const line of text.split("\n")) {
    const [, pid = "", by = "", call = ""] = LINE.exec(line) ?? [];
    const cut = /^(.*) <unfinished \.\.\.>$/.exec(call)?.[1];
    if (cut !== undefined) {
      pending.set(pid, cut);
      continue;
    }
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(call)?.[1];
    events.push(...eventOf(resumed === undefined ? call : `${pending.get(pid) ?? ""}${resumed}`, by));
  }
  return events;
}

function eventOf(call: string, by: string): FileEvent[] {
  const [, name = "", args = "", result = ""] = /^(\w+)\((.*)\)\s+= (-?\d+)/.exec(call) ?? [];
  if (name === "" || Number(result) < 0) return [];
  const paths = pathsOf(args);
  const [path = "", to = ""] = paths;
  switch (name) {
    case "openat":
    case "open":
    case "creat": {
      const opened = /= \d+<([^>]*)>/.exec(call)?.[1] ?? path;
      return /O_CREAT|O_TRUNC/.test(args) ? [{ kind: "created", path: opened, by }] : [];
    }
    case "rename":
    case "renameat":
    case "renameat2":
      return [{ kind: "renamed", path, to, by }];
    case "link":
    case "linkat":
      return [{ kind: "linked", path, to, by }];
    case "unlink":
    case "unlinkat":
    case "rmdir":
      return [{ kind: "removed", path, by }];
    case "mkdir":
    case "mkdirat":
    case "symlink":
    case "symlinkat":
      return [{ kind: "created", path: paths.at(-1) ?? "", by }];
    case "fsync":
    case "fdatasync":
      return [{ kind: "synced", path: descriptorOf(args), by }];
    case "chdir":
    case "fchdir":
      return [];
    case "copy_file_range":
      return [{ kind: "written", path: [...args.matchAll(/\d+<([^>]*)>/g)][1]?.[1] ?? "", by }];
    case "pwrite64":
      return [{ kind: "written", path: descriptorOf(args), by, at: Number(/, (\d+)$/.exec(args)?.[1]) }];
    default:
      return [{ kind: "written", path: name === "truncate" ? path : descriptorOf(args), by }];
  }
}

/** Quoted paths, relative ones below the directory descriptor before them. */
function pathsOf(args: string): string[] {
  return [...args.matchAll(/(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"/g)].map(
    ([, at = "/", path = ""]) => resolve(at, path),
  );
}

function descriptorOf(args: string): string {
  return /^\d+<([^>]*)>/.exec(args)?.[1] ?? "";
}

/**
 * Describes what a power cut after these events could take; empty when all of it is on the disk.
 * @param counts the paths that must be there, and whose names must not come back
 */
export function lostByPowerCut(events: readonly FileEvent[], counts: (path: string) => boolean): string[] {
  const unsyncedFiles = new Set<string>();
  const unsyncedNames = new Map<string, string>();
  const renameIn = (set: Set<string>, from: string, to: string): void => {
    set.delete(to);
    if (set.delete(from)) set.add(to);
  };
  for (const event of events) {
    const { kind, path } = event;
    if (event.kind === "renamed" || event.kind === "linked") {
      if (event.kind === "renamed") {
        renameIn(unsyncedFiles, path, event.to);
        unsyncedNames.set(path, "renamed away");
      } else if (unsyncedFiles.has(path)) unsyncedFiles.add(event.to);
      unsyncedNames.set(event.to, kind);
    } else if (kind === "synced") {
      unsyncedFiles.delete(path);
      for (const name of unsyncedNames.keys()) if (dirname(name) === path) unsyncedNames.delete(name);
    } else if (kind === "written") unsyncedFiles.add(path);
    else if (kind === "created") {
      unsyncedFiles.add(path);
      unsyncedNames.set(path, kind);
    } else if (kind === "removed") {
      unsyncedFiles.delete(path);
      // With a directory go the names in it.
      for (const name of unsyncedNames.keys()) if (dirname(name) === path) unsyncedNames.delete(name);
      unsyncedNames.set(path, kind);
    }
  }
  return [
    ...[...unsyncedFiles].filter(counts).map((path) => `the content of ${shown(path)}`),
    ...[...unsyncedNames]
      .filter(([path]) => counts(path))
      .map(([path, how]) => `the name ${shown(path)}, ${how}`),
  ];
}

function shown(path: string): string {
  return `${basename(dirname(path))}/${basename(path)}`;
}
