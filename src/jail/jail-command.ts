/**
 * The command line that starts a VMM behind its walls, decided in one pure function:
 *
 *   nsenter (a network namespace that is there already) ─▶ bwrap (all other namespaces, an own root, no capability but
 *     three) ─▶ setpriv (own uid, none at all) ─▶ prlimit (resource limits) ─▶ the VMM, in the same process
 *
 * The VMM sees its files at the same paths as the host, so its own command line does not depend on the jail; what
 * it has to find in any jail at one path, such as what it has saved elsewhere, is named with `at`.
 */
import { basename, join } from "node:path";
import type { SandboxHost } from "#host/sandbox-host.ts";
import { bindArguments, rootArguments, SETPRIV_NEEDS, setprivArguments } from "#host/sandbox-root.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";
import type { NetworkNamespace } from "#model/isolation.ts";

/** A file that the VMM sees. */
export type JailFile = SandboxFile;

export type JailPlan = {
  /** Absolute, and no link. */
  readonly program: string;
  readonly args: readonly string[];
  /** All that the VMM sees of the host besides the system's libraries; absolute, with no link on the way. */
  readonly files: readonly JailFile[];
  /** False: only the pid namespace, with everything else as hearthd has it. */
  readonly jail: boolean;
  readonly pidNamespace: boolean;
  readonly network: NetworkNamespace;
  /** Uid and gid of the VMM, with `groups` besides; undefined: hearthd's own. Needs root. */
  readonly uid?: number | undefined;
  /** Whose rights the VMM has without `jail`, with `groups` besides; undefined: hearthd's own. Needs root. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  readonly groups: readonly number[];
  /** Of the largest file that the VMM may write. */
  readonly fileMaxBytes: number;
  /** Firecracker's own launcher, which makes the root directory, drops the rights, and sets the limits. */
  readonly jailer?: Jailer | undefined;
};

export type Jailer = {
  /** Absolute, and no link. */
  readonly program: string;
  /** The VM's id: letters, digits and hyphens. */
  readonly id: string;
  /** Where it makes the VMM's root directory; there already, with a mount point for each of the plan's files. */
  readonly baseDir: string;
};

/** fd 3 says which process the VMM is; fd 4 holds it back until its cgroup has it. */
const INFO_FD = "3";
const BLOCK_FD = "4";
/** The open files that are mounted follow. */
export const FIRST_FILE_FD = 5;
/**
 * A crash never leaves the guest's memory on the host's disk. Set before the VMM's program runs; the jailer has no
 * such limit of its own.
 */
const NO_CORE_DUMPS = "--core=0";
/**
 * A cgroup that is never there. The jailer moves itself into `--parent-cgroup` if that exists, and into one named
 * after its program, such as `firecracker`, when it is given none: out of the cgroup that holds the VM's limits. The
 * VM's own cgroup cannot be named: where the tree is mounted with `nsdelegate`, as systemd does, the kernel refuses
 * the move with ENOENT, because neither end lies in the cgroup namespace that the jailer is in.
 */
const NO_CGROUP = "hearth/none";
/** Disks, sockets, and a connection each for what goes through user-mode networking. */
const OPEN_FILES_MAX = 4096;

/** The program first. */
export function jailCommand(plan: JailPlan, host: SandboxHost): string[] {
  return [...joinNetwork(plan.network), ...sandboxCommand(plan, host)];
}

/**
 * What stands before a command that is to run in a network namespace which is there already: bwrap can only make them.
 * nsenter becomes the command, in the same process; joining takes CAP_SYS_ADMIN.
 */
export function joinNetwork(network: NetworkNamespace): string[] {
  return network.kind === "join" ? ["nsenter", `--net=${network.path}`, "--"] : [];
}

function sandboxCommand(plan: JailPlan, host: SandboxHost): string[] {
  const pidNamespace = plan.pidNamespace ? ["--unshare-pid", "--as-pid-1"] : [];
  const fds = ["--info-fd", INFO_FD, "--block-fd", BLOCK_FD];
  const vmm = [plan.program, ...plan.args];
  const { jailer } = plan;
  if (plan.jail && jailer !== undefined)
    return [
      [host.bwrap, "--dev-bind", "/", "/", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"],
      pidNamespace,
      plan.network.kind === "own" ? ["--unshare-net"] : [],
      ["--clearenv", "--new-session"],
      // In this mount namespace only: nothing of it is left on the host, however the VMM ends.
      plan.files.flatMap((file) => bindArguments(file, jailerRoot(plan, jailer))),
      [...fds, "--"],
      withoutCoreDumps(host),
      jailerArguments(plan, jailer),
    ].flat();
  if (!plan.jail)
    return [
      [host.bwrap, "--dev-bind", "/", "/", ...pidNamespace, ...fds, "--"],
      [...asUser(plan, host), ...withoutCoreDumps(host), ...vmm],
    ].flat();
  return [
    host.bwrap,
    ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup", ...pidNamespace],
    plan.network.kind === "own" ? ["--unshare-net"] : [],
    ["--clearenv", "--new-session", "--cap-drop", "ALL"],
    plan.uid === undefined ? [] : SETPRIV_NEEDS.flatMap((name) => ["--cap-add", name]),
    // The last step takes the right to write to it away: what can be written is the VM's own, and bounded.
    rootArguments(plan.files, { hostNetwork: plan.network.kind === "host" }, host),
    [...fds, "--"],
    plan.uid === undefined ? [] : setprivArguments(host, { uid: plan.uid, gid: plan.uid }, plan.groups),
    [host.prlimit, `--fsize=${plan.fileMaxBytes}`, `--nofile=${OPEN_FILES_MAX}`, NO_CORE_DUMPS, "--"],
    vmm,
  ].flat();
}

/** What stands before a command that has no jail and is not to have root's rights; setpriv becomes the command. */
export function asUser(
  { user, groups }: Pick<JailPlan, "user" | "groups">,
  host: Pick<SandboxHost, "setpriv">,
): string[] {
  return user === undefined ? [] : setprivArguments(host, user, groups);
}

/** What stands before a command that must leave no core dump; prlimit becomes the command, in the same process. */
export function withoutCoreDumps({ prlimit }: Pick<SandboxHost, "prlimit">): string[] {
  return [prlimit, NO_CORE_DUMPS, "--"];
}

/** The VMM's root directory, which the jailer names after the VMM's program and the VM. */
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
    ["--chroot-base-dir", jailer.baseDir, "--cgroup-version", "2", "--parent-cgroup", NO_CGROUP],
    ["--resource-limit", `fsize=${plan.fileMaxBytes}`, "--resource-limit", `no-file=${OPEN_FILES_MAX}`, "--"],
    plan.args,
  ].flat();
}
