/**
 * Builds the command line that starts an isolated VMM, in one pure function. Each program sets up its part and then
 * becomes the next one; the VMM keeps the pid of bwrap's child:
 *
 *   1. nsenter  joins an existing network namespace, if there is one to join, and the user namespace that owns it
 *   2. bwrap    makes all other namespaces and a root directory, and drops all capabilities but three
 *   3. setpriv  switches to the VMM's uid, without capabilities
 *   4. prlimit  sets resource limits
 *   5. the VMM
 *
 * With Firecracker's jailer, bwrap makes namespaces and mounts only, and the jailer replaces steps 3 and 4 and makes
 * the root directory. The VMM sees its files at the same paths as the host, so its own command line does not depend on
 * the jail; `at` names a file that must have one path in every jail, such as those that a VM state file names.
 */
import { basename, join } from "node:path";
import type { SandboxHost } from "#host/sandbox-host.ts";
import { bindArguments, rootArguments, SETPRIV_NEEDS, setprivArguments } from "#host/sandbox-root.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";
import type { LaunchNetwork } from "#jail/vmm-launch.ts";

/** A file that the VMM sees. */
export type JailFile = SandboxFile;

export type JailPlan = {
  /** Absolute, with links resolved. */
  readonly program: string;
  readonly args: readonly string[];
  /** All that the VMM sees of the host besides the system's libraries; absolute, with no link on the way. */
  readonly files: readonly JailFile[];
  /** False: only the pid namespace; everything else is hearthd's. */
  readonly jail: boolean;
  readonly pidNamespace: boolean;
  readonly network: LaunchNetwork;
  /** Uid and gid of the VMM, with `groups` in addition; undefined: hearthd's. Needs root. */
  readonly uid?: number | undefined;
  /** The user whose rights a VMM without `jail` has, with `groups` in addition; undefined: hearthd's. Needs root. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  readonly groups: readonly number[];
  /** The size of the largest file that the VMM may write. */
  readonly fileMaxBytes: number;
  /** Firecracker's own launcher, which makes the root directory, drops the rights, and sets the limits. */
  readonly jailer?: Jailer | undefined;
};

export type Jailer = {
  /** Absolute, with links resolved. */
  readonly program: string;
  /** The VM's id: letters, digits and hyphens. */
  readonly id: string;
  /**
   * The directory in which it makes the VMM's root directory; that exists, with a mount point for each of the plan's
   * files.
   */
  readonly baseDir: string;
};

/** bwrap writes the VMM's pid to fd 3, and waits for fd 4 before it runs the VMM: until the cgroup has it. */
const INFO_FD = "3";
const BLOCK_FD = "4";
/** The open files that are mounted follow. */
export const FIRST_FILE_FD = 5;
/**
 * Keeps the guest's memory off the host's disk after a crash. Set before the VMM's program runs; the jailer has no
 * option for it.
 */
const NO_CORE_DUMPS = "--core=0";
/**
 * A cgroup that never exists, for `--parent-cgroup`. The jailer moves itself into that cgroup if it exists, and without
 * the option into one named after its program, such as `firecracker`: out of the cgroup with the VM's limits. The VM's
 * own cgroup cannot be named: where the tree is mounted with `nsdelegate`, as systemd does, the kernel refuses the move
 * with ENOENT, because neither end is in the jailer's cgroup namespace.
 */
const NO_CGROUP = "hearth/none";
/** Disks, and sockets. */
const OPEN_FILES_MAX = 4096;

/** Returns the command, the program first. */
export function jailCommand(plan: JailPlan, host: SandboxHost): string[] {
  return [...joinNetwork(plan.network), ...sandboxCommand(plan, host)];
}

/**
 * Returns the start of a command that is to run in an existing network namespace: bwrap can only make new ones. nsenter
 * becomes the command, in the same process; joining takes CAP_SYS_ADMIN, which hearthd's user has in a user namespace of
 * its own.
 */
export function joinNetwork(network: LaunchNetwork): string[] {
  if (network.kind !== "join") return [];
  const { owner } = network;
  const user = owner === undefined ? [] : [`--user=${owner.path}`, "--preserve-credentials"];
  return ["nsenter", ...user, `--net=${network.path}`, "--"];
}

/**
 * Returns bwrap's arguments for a user namespace below the one that was joined, with hearthd's ids. In that one the VMM
 * would be root, who may change the network.
 */
function unshareUser(network: LaunchNetwork): string[] {
  if (network.kind !== "join" || network.owner === undefined) return [];
  const { uid, gid } = network.owner.user;
  return ["--unshare-user", "--uid", String(uid), "--gid", String(gid)];
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
      // Mounts exist in this mount namespace only: none is left on the host, however the VMM ends.
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
    unshareUser(plan.network),
    ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup", ...pidNamespace],
    plan.network.kind === "own" ? ["--unshare-net"] : [],
    ["--clearenv", "--new-session", "--cap-drop", "ALL"],
    plan.uid === undefined ? [] : SETPRIV_NEEDS.flatMap((name) => ["--cap-add", name]),
    // The last step makes the root read-only: the VMM can write only to files of the VM, whose size is limited.
    rootArguments(plan.files, { hostNetwork: plan.network.kind === "host" }, host),
    [...fds, "--"],
    plan.uid === undefined ? [] : setprivArguments(host, { uid: plan.uid, gid: plan.uid }, plan.groups),
    [host.prlimit, `--fsize=${plan.fileMaxBytes}`, `--nofile=${OPEN_FILES_MAX}`, NO_CORE_DUMPS, "--"],
    vmm,
  ].flat();
}

/**
 * Returns the start of a command that runs without a jail and must not have root's rights; setpriv becomes the command.
 */
export function asUser(
  { user, groups }: Pick<JailPlan, "user" | "groups">,
  host: Pick<SandboxHost, "setpriv">,
): string[] {
  return user === undefined ? [] : setprivArguments(host, user, groups);
}

/** Returns the start of a command that must leave no core dump; prlimit becomes the command, in the same process. */
export function withoutCoreDumps({ prlimit }: Pick<SandboxHost, "prlimit">): string[] {
  return [prlimit, NO_CORE_DUMPS, "--"];
}

/** Returns the VMM's root directory, which the jailer names after the VMM's program and the VM. */
export function jailerRoot(plan: Pick<JailPlan, "program">, { baseDir, id }: Jailer): string {
  return join(baseDir, basename(plan.program), id, "root");
}

/**
 * Returns the jailer's command, without `--new-pid-ns`, `--netns` and `--cgroup`: namespaces and cgroup exist before it
 * runs, as for every VMM. With `--new-pid-ns` it would fork, and its end would look like the VMM's.
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
