/** The parts of a sandbox's command line that VMMs and tools share: the visible files of the host, and the rights. */
import { basename, dirname, join } from "node:path";
import { invariant } from "#base/error.ts";
import type { SandboxHost } from "#host/sandbox-host.ts";

export type SandboxFile = {
  readonly path: string;
  readonly access: "read" | "write" | "device";
  /** The absolute path of the file in the sandbox; by default the host's path. */
  readonly at?: string | undefined;
  /** An open file that is mounted instead of the path's target. */
  readonly fd?: number | undefined;
};

/** The capabilities for changing the uid and emptying the bounding set. setpriv drops them all. */
export const SETPRIV_NEEDS = ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"];

const BIND = { read: "--ro-bind", write: "--bind", device: "--dev-bind" } as const;
const BIND_FD = { read: "--ro-bind-fd", write: "--bind-fd" } as const;
/** Directories that bwrap's `--dev` makes. */
const DEV_DIRS = new Set(["/dev", "/dev/pts", "/dev/shm"]);
const READ_ONLY = ["--remount-ro", "/dev", "--remount-ro", "/"];

/** Returns the path of the file in the sandbox. */
export function pathInside({ path, at }: SandboxFile): string {
  return at ?? path;
}

/** Returns bwrap's arguments that mount one file below a root that is made elsewhere. */
export function bindArguments(file: SandboxFile, root: string): string[] {
  const { access, path, fd } = file;
  const at = join(root, pathInside(file));
  return fd === undefined || access === "device"
    ? [BIND[access], path, at]
    : [BIND_FD[access], String(fd), at];
}

/** Numbers the open files as bwrap gets them: `fds` in their order, beginning with `first`. */
export function passFiles(
  files: readonly SandboxFile[],
  first: number,
): { readonly files: readonly SandboxFile[]; readonly fds: readonly number[] } {
  const fds = files.flatMap(({ fd }) => fd ?? []);
  const passed = files.map((file) =>
    file.fd === undefined ? file : { ...file, fd: first + fds.indexOf(file.fd) },
  );
  return { files: passed, fds };
}

/** Returns bwrap's arguments for a read-only root with the system's libraries and these files. */
export function rootArguments(
  files: readonly SandboxFile[],
  { hostNetwork }: { readonly hostNetwork: boolean },
  host: SandboxHost,
): string[] {
  const system = host.systemDirs.flatMap((path) => ["--ro-bind", path, path]);
  const links = host.links.flatMap(([path, target]) => ["--symlink", target, path]);
  const cache = ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"];
  const names = hostNetwork ? ["--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"] : [];
  const dev = ["--dev", "/dev"];
  const binds = files.flatMap((file) => bindArguments(file, "/"));
  const dirs = dirsAbove([...files.map(pathInside), "/etc/x"], host.systemDirs);
  const makeDirs = dirs.flatMap((path) => ["--perms", "0755", "--dir", path]);
  return [...system, ...links, ...dev, ...makeDirs, ...cache, ...names, ...binds, ...READ_ONLY];
}

/** Returns the directories that bwrap would make itself, but only accessible for root. Outer ones come first. */
function dirsAbove(paths: readonly string[], there: readonly string[]): string[] {
  const dirs = new Set<string>();
  for (const path of paths) {
    invariant(path.startsWith("/") && !path.includes("\0"), "what a jail shows is an absolute path");
    for (let dir = dirname(path); dir !== "/"; dir = dirname(dir)) dirs.add(dir);
  }
  const isThere = (dir: string): boolean =>
    DEV_DIRS.has(dir) || there.some((root) => dir === root || dir.startsWith(`${root}/`));
  return [...dirs].filter((dir) => !isThere(dir)).toSorted();
}

/** Returns the command that drops all rights except those of this uid, and executes the arguments that follow. */
export function setprivArguments(
  { setpriv }: Pick<SandboxHost, "setpriv">,
  { uid, gid }: { readonly uid: number; readonly gid: number },
  groups: readonly number[],
): string[] {
  return [
    [setpriv, "--reuid", String(uid), "--regid", String(gid)],
    groups.length === 0 ? ["--clear-groups"] : ["--groups", groups.join(",")],
    ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"],
  ].flat();
}

/**
 * Returns the files of a program. One outside of /usr comes with its prefix, such as /opt/qemu, or alone if it is not
 * in a `bin` directory.
 */
export function programFiles(program: string): SandboxFile[] {
  if (/^\/(usr|lib|lib64|bin|sbin)\//.test(program)) return [];
  const dir = dirname(program);
  const prefix = dirname(dir);
  const path = basename(dir) === "bin" && prefix !== "/" ? prefix : program;
  return [{ path, access: "read" }];
}
