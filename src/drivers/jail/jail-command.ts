/**
 * The command line that starts a VMM behind its walls, decided in one pure function:
 *
 *   bwrap (namespaces, an own root, no capability but three) ─▶ setpriv (own uid, none at all)
 *     ─▶ prlimit (resource limits) ─▶ the VMM, in the same process
 *
 * The VMM sees its files at the same paths as the host, so its own command line does not depend on the jail; what
 * it has to find in any jail at one path, such as what it has saved elsewhere, is named with `at`.
 */
import { basename, dirname, join } from "node:path";
import { invariant } from "#base/error.ts";

export type JailFile = {
  readonly path: string;
  readonly access: "read" | "write" | "device";
  /** Where the VMM finds it in its jail, absolute; at the host's path when left out. */
  readonly at?: string | undefined;
};

export type JailPlan = {
  /** Absolute, and no link. */
  readonly program: string;
  readonly args: readonly string[];
  /** All that the VMM sees of the host besides the system's libraries; absolute, with no link on the way. */
  readonly files: readonly JailFile[];
  /** False: only the pid namespace, with everything else as hearthd has it. */
  readonly jail: boolean;
  readonly pidNamespace: boolean;
  /** Keep the host's network, for a VMM that is the guest's network itself. */
  readonly hostNetwork: boolean;
  /** Uid and gid of the VMM, with `groups` besides; undefined: hearthd's own. Needs root. */
  readonly uid?: number | undefined;
  readonly groups: readonly number[];
  /** Of the largest file that the VMM may write. */
  readonly fileMaxBytes: number;
  /** Firecracker's own launcher, which makes the root folder, drops the rights, and sets the limits. */
  readonly jailer?: Jailer | undefined;
};

export type Jailer = {
  /** Absolute, and no link. */
  readonly program: string;
  /** The VM's id: letters, digits and hyphens. */
  readonly id: string;
  /** Where it makes the VMM's root folder; there already, with a mount point for each of the plan's files. */
  readonly baseDir: string;
};

/** What the system itself looks like. Of bwrap and the host, not of one VM. */
export type JailHost = {
  readonly bwrap: string;
  readonly setpriv: string;
  readonly prlimit: string;
  /** Absolute links such as /lib with what they point to, such as usr/lib. */
  readonly links: readonly (readonly [path: string, target: string])[];
  /** Folders that hold programs and libraries: /usr, and /lib where that is no link. */
  readonly systemFolders: readonly string[];
  readonly isRoot: boolean;
};

/** fd 3 says which process the VMM is; fd 4 holds it back until its cgroup has it. */
const INFO_FD = "3";
const BLOCK_FD = "4";
/** For changing the uid and emptying the bounding set; setpriv ends with none of them. */
const SETPRIV_NEEDS = ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"];
/** Disks, sockets, and a connection each for what goes through user-mode networking. */
const OPEN_FILES_MAX = 4096;

/** The program first. */
export function jailCommand(plan: JailPlan, host: JailHost): string[] {
  const pidNamespace = plan.pidNamespace ? ["--unshare-pid", "--as-pid-1"] : [];
  const fds = ["--info-fd", INFO_FD, "--block-fd", BLOCK_FD];
  const vmm = [plan.program, ...plan.args];
  const { jailer } = plan;
  if (plan.jail && jailer !== undefined)
    return [
      [host.bwrap, "--dev-bind", "/", "/", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"],
      pidNamespace,
      plan.hostNetwork ? [] : ["--unshare-net"],
      ["--clearenv", "--new-session"],
      // In this mount namespace only: nothing of it is left on the host, however the VMM ends.
      plan.files.flatMap((file) => bind(file, jailerRoot(plan, jailer))),
      [...fds, "--"],
      jailerArguments(plan, jailer),
    ].flat();
  if (!plan.jail) return [host.bwrap, "--dev-bind", "/", "/", ...pidNamespace, ...fds, "--", ...vmm];
  return [
    host.bwrap,
    ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup", ...pidNamespace],
    plan.hostNetwork ? [] : ["--unshare-net"],
    ["--clearenv", "--new-session", "--cap-drop", "ALL"],
    plan.uid === undefined ? [] : SETPRIV_NEEDS.flatMap((name) => ["--cap-add", name]),
    rootArguments(plan, host),
    [...fds, "--"],
    plan.uid === undefined ? [] : setprivArguments(host, plan.uid, plan.groups),
    [host.prlimit, `--fsize=${plan.fileMaxBytes}`, `--nofile=${OPEN_FILES_MAX}`, "--core=0", "--"],
    vmm,
  ].flat();
}

/** Where the VMM finds the file, seen from its own root. */
export function pathInJail({ path, at }: JailFile): string {
  return at ?? path;
}

/** The VMM's root folder, which the jailer names after the VMM's program and the VM. */
export function jailerRoot(plan: Pick<JailPlan, "program">, { baseDir, id }: Jailer): string {
  return join(baseDir, basename(plan.program), id, "root");
}

/**
 * Without `--new-pid-ns`, `--netns` and `--cgroup`: namespaces and cgroup are there before it runs, the same for
 * every VMM. BG-026: it would fork for the first, and its end would look like the VMM's.
 */
function jailerArguments(plan: JailPlan, jailer: Jailer): string[] {
  const uid = String(plan.uid ?? 0);
  return [
    [jailer.program, "--id", jailer.id, "--exec-file", plan.program, "--uid", uid, "--gid", uid],
    ["--chroot-base-dir", jailer.baseDir, "--cgroup-version", "2"],
    ["--resource-limit", `fsize=${plan.fileMaxBytes}`, "--resource-limit", `no-file=${OPEN_FILES_MAX}`, "--"],
    plan.args,
  ].flat();
}

/** The last step takes the right to write to it away: what can be written is the VM's own, and bounded. */
function rootArguments(plan: JailPlan, host: JailHost): string[] {
  const system = host.systemFolders.flatMap((path) => ["--ro-bind", path, path]);
  const links = host.links.flatMap(([path, target]) => ["--symlink", target, path]);
  const cache = ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"];
  const names = plan.hostNetwork ? ["--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"] : [];
  const dev = ["--dev", "/dev"];
  const binds = plan.files.flatMap((file) => bind(file, "/"));
  const folders = foldersAbove([...plan.files.map(pathInJail), "/etc/x"], [...host.systemFolders, "/dev"]);
  const makeFolders = folders.flatMap((path) => ["--perms", "0755", "--dir", path]);
  return [...system, ...links, ...dev, ...makeFolders, ...cache, ...names, ...binds, ...READ_ONLY];
}

const BIND = { read: "--ro-bind", write: "--bind", device: "--dev-bind" } as const;

function bind(file: JailFile, root: string): string[] {
  return [BIND[file.access], file.path, join(root, pathInJail(file))];
}

const READ_ONLY = ["--remount-ro", "/dev", "--remount-ro", "/"];

/** Folders that bwrap would make by itself, but for root alone; the outer ones first. */
function foldersAbove(paths: readonly string[], there: readonly string[]): string[] {
  const folders = new Set<string>();
  for (const path of paths) {
    invariant(path.startsWith("/") && !path.includes("\0"), "what a jail shows is an absolute path");
    for (let folder = dirname(path); folder !== "/"; folder = dirname(folder)) folders.add(folder);
  }
  const isThere = (folder: string): boolean =>
    there.some((root) => folder === root || folder.startsWith(`${root}/`));
  return [...folders].filter((folder) => !isThere(folder)).toSorted();
}

function setprivArguments(host: JailHost, uid: number, groups: readonly number[]): string[] {
  return [
    [host.setpriv, "--reuid", String(uid), "--regid", String(uid)],
    groups.length === 0 ? ["--clear-groups"] : ["--groups", groups.join(",")],
    ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"],
  ].flat();
}
