/**
 * Starts a VMM with the isolation of its boot. Its process is known, and in its cgroup, before it runs:
 *
 *   1. resolve the programs, and build the command (`jailCommand`); for a jailer, make the mount points
 *   2. start the launcher: it makes the VMM's process, writes its pid to fd 3, and waits for fd 4
 *   3. `prepare` the process: move it into its cgroup
 *   4. let the launcher continue, and so the VMM run
 *
 * With neither jail nor pid namespace there is no launcher, and `prepare` follows the start.
 */
import { chmodSync, closeSync, fstatSync, mkdirSync, openSync, realpathSync, statSync } from "node:fs";
import { constants } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { failAfter } from "#base/clean-up.ts";
import { inTime } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import {
  asUser,
  FIRST_FILE_FD,
  jailCommand,
  jailerRoot,
  joinNetwork,
  withoutCoreDumps,
} from "#jail/jail-command.ts";
import type { JailFile, JailPlan } from "#jail/jail-command.ts";
import { findJailHost } from "#jail/jail-host.ts";
import { findProgram } from "#host/find-program.ts";
import { endProcess } from "#host/process-end.ts";
import { mountOf } from "#host/mounts.ts";
import { findDescendants, findProcess, isAlive, signalProcess } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { missingTool, startDetached, startHeld } from "#host/run.ts";
import { passFiles, pathInside, programFiles } from "#host/sandbox-root.ts";
import type {
  ChildExit,
  LaunchedVmm,
  LaunchIsolation,
  PrepareVmm,
  VmmLaunch,
  VmmStdio,
} from "#jail/vmm-launch.ts";

/**
 * The variable in the environment of a VMM's launcher that has the id of the VM. By it recovery recognizes the
 * launchers of a privileged port that has ended.
 */
export const LAUNCH_MARK = "HEARTH_VM";
/** A launcher answers in 5 ms on an idle machine. */
const LAUNCH_DEADLINE_MS = 30_000;

/**
 * Starts a VMM. Its files are open already, with the rights of whoever opened them. A VMM that ends at once is no error
 * here: its `exit` says so.
 * @throws HearthError `vmm.missing`; `host.tool_missing`, `feature.missing` where this host has no such isolation; what
 * `prepare` throws. Nothing is left then.
 */
export async function launchVmm(
  launch: VmmLaunch,
  stdio: VmmStdio,
  isolation: LaunchIsolation,
  prepare: PrepareVmm,
  signal: AbortSignal,
): Promise<LaunchedVmm> {
  const { jail, pidNamespace } = isolation;
  const program = realProgram(launch.program);
  if (!jail && !pidNamespace) return launchBare(launch, stdio, program, isolation, prepare);
  const host = await findJailHost(signal);
  const plan = jailPlan(launch, program, isolation);
  if (plan.jail && plan.jailer !== undefined) makeMountPoints(jailerRoot(plan, plan.jailer), launch.files);
  const dir = jail ? "/" : (launch.dir ?? "/");
  const { umask } = isolation;
  const { fds } = passFiles(launch.files, FIRST_FILE_FD);
  return launchBlocked({ ...stdio, dir, umask, fds, vmId: launch.vmId }, jailCommand(plan, host), prepare);
}

function toolPath(name: "prlimit" | "setpriv"): string {
  const path = findProgram(name);
  if (path === undefined) throw missingTool(name);
  return path;
}

async function launchBare(
  launch: VmmLaunch,
  { stdin, stdout, log }: VmmStdio,
  program: string,
  { network, user, umask }: LaunchIsolation,
  prepare: PrepareVmm,
): Promise<LaunchedVmm> {
  const { promise: exit, resolve } = Promise.withResolvers<ChildExit>();
  const [prlimit, setpriv] = [toolPath("prlimit"), toolPath("setpriv")];
  const [file = "", ...args] = [
    ...joinNetwork(network),
    ...asUser({ user, groups: deviceGroups(launch.files) }, { setpriv }),
    ...withoutCoreDumps({ prlimit }),
    program,
    ...launch.args,
  ];
  const pid = await startDetached(file, args, {
    cwd: launch.dir ?? "/",
    env: { [LAUNCH_MARK]: launch.vmId },
    umask,
    logFile: log,
    stdout,
    stdin,
    onExit: (code, signal) => resolve({ code, signal }),
  });
  const vmm = findProcess(pid);
  try {
    if (vmm !== undefined) await prepare(vmm);
  } catch (error) {
    return await failAfter(error, () => endAll([vmm]));
  }
  return { process: vmm, launcher: undefined, exit };
}

/** The properties of a launcher besides its command. */
type BlockedLaunch = VmmStdio &
  Pick<LaunchIsolation, "umask"> & {
    readonly dir: string;
    readonly vmId: string;
    readonly fds?: readonly number[];
  };

/**
 * Starts a launcher that writes the VMM's pid to its fd 3, and starts the VMM when its fd 4 has something to read.
 * @throws HearthError `vmm.unresponsive` when it writes nothing in time; it has ended then, with all its children
 */
export async function launchBlocked(
  { dir, vmId, umask, fds, stdin, stdout, log }: BlockedLaunch,
  [file = "", ...args]: readonly string[],
  prepare: PrepareVmm,
): Promise<LaunchedVmm> {
  const { promise: exit, resolve } = Promise.withResolvers<ChildExit>();
  let vmm: ProcessRef | undefined;
  const waiting = await startHeld(file, args, {
    cwd: dir,
    env: { [LAUNCH_MARK]: vmId },
    umask,
    fds,
    logFile: log,
    stdout,
    stdin,
    onExit: (code, signal) => {
      const outlived = vmm !== undefined && isAlive(vmm);
      resolve(outlived ? { code: null, signal: null } : childExit(code, signal));
    },
  });
  const launcher = findProcess(waiting.pid);
  try {
    // This ignores cancellation: only with its pid known can the VMM be ended for sure.
    vmm = childOf(await inTime(waiting.told, LAUNCH_DEADLINE_MS, launcherSilent));
    if (vmm !== undefined) await prepare(vmm);
  } catch (error) {
    return await failAfter(error, () => endAll([vmm, ...stopTree(launcher)]));
  } finally {
    waiting.release(); // Not earlier: the VMM would run before it is in its cgroup.
  }
  return { process: vmm, launcher, exit };
}

function launcherSilent(): HearthError {
  return new HearthError(
    "vmm.unresponsive",
    `The launcher of the VMM did not answer within ${LAUNCH_DEADLINE_MS} ms.`,
  );
}

/**
 * Parses `{"child-pid": 4711, …}`. Undefined where the launcher has failed: its exit code and the log have the reason.
 */
function childOf(told: string): ProcessRef | undefined {
  const pid = Number(/"child-pid"\s*:\s*(\d+)/.exec(told)?.[1]);
  return Number.isInteger(pid) ? findProcess(pid) : undefined;
}

/** Returns the launcher and its children, which would wait forever after the launcher was killed. */
function stopTree(launcher: ProcessRef | undefined): ProcessRef[] {
  if (launcher === undefined) return [];
  signalProcess(launcher, "SIGSTOP"); // A stopped launcher makes no more children.
  return [...findDescendants(launcher), launcher];
}

async function endAll(processes: readonly (ProcessRef | undefined)[]): Promise<void> {
  for (const one of processes) if (one !== undefined) await endProcess(one, 0, new AbortController().signal);
}

/**
 * Converts the exit code of a launcher, which ends as a shell does: with 128 and the number of the signal that ended
 * its child.
 */
function childExit(code: number | null, signal: NodeJS.Signals | null): ChildExit {
  if (code === null || code <= 128) return { code, signal };
  const named = Object.entries(constants.signals).find(([, number]) => number === code - 128)?.[0];
  return named === undefined ? { code, signal } : { code: null, signal: named as NodeJS.Signals };
}

function jailPlan(launch: VmmLaunch, program: string, isolation: LaunchIsolation): JailPlan {
  const { jail, pidNamespace, network, uid, user, jailDir } = isolation;
  const jailer =
    launch.jailer === undefined
      ? undefined
      : { program: realProgram(launch.jailer), id: launch.vmId, baseDir: jailDir };
  return {
    program,
    args: launch.args,
    files: passFiles(launch.files, FIRST_FILE_FD).files,
    jail,
    pidNamespace,
    network,
    uid,
    user,
    groups: deviceGroups(launch.files),
    fileMaxBytes: launch.fileMaxBytes,
    jailer,
  };
}

/** Returns all files that a VMM in a jail needs, including those of its program. A jailer copies the program itself. */
export function jailFiles({
  program,
  jailer,
  files,
}: Pick<VmmLaunch, "program" | "jailer" | "files">): JailFile[] {
  return jailer === undefined ? [...programFiles(realProgram(program)), ...files] : [...files];
}

/** Refuses a file system on which the jailer cannot make device files. */
function checkDevices(root: string): void {
  const mount = mountOf(root);
  if (mount === undefined || !mount.options.includes("nodev")) return;
  throw new HearthError(
    "feature.missing",
    `The jailer cannot create devices in ${root}: ${mount.point} is mounted with nodev.`,
    { hint: "Mount it without nodev, or set HEARTH_HOME to another directory." },
  );
}

/**
 * Makes directories and empty files to mount on. The directory is new: the jailer refuses to find its own files in it.
 */
function makeMountPoints(root: string, files: readonly JailFile[]): void {
  mkdirSync(root, { recursive: true });
  checkDevices(root);
  for (const file of files) {
    const point = join(root, pathInside(file));
    const isDir = (file.fd === undefined ? statSync(file.path) : fstatSync(file.fd)).isDirectory();
    const dir = isDir ? point : dirname(point);
    mkdirSync(dir, { recursive: true });
    // hearthd's umask may be strict; the VMM has another uid, and passes through these directories to its files.
    for (let above = dir; above.startsWith(root); above = dirname(above)) chmodSync(above, 0o755);
    if (!isDir) closeSync(openSync(point, "a", 0o644));
  }
}

/** Resolves a name on PATH or an absolute path to a path without links. @throws HearthError `vmm.missing` */
export function realProgram(program: string): string {
  const path = isAbsolute(program) ? program : findProgram(program);
  try {
    if (path !== undefined) return realpathSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const { message, hint } = missingTool(program);
  throw new HearthError("vmm.missing", message.replaceAll("`", ""), { hint });
}

/** Returns the groups of the devices that not everybody may use: a VMM's uid is in no group by itself. */
function deviceGroups(files: readonly JailFile[]): number[] {
  const devices = files.filter(({ access }) => access === "device").map(({ path }) => statSync(path));
  return [...new Set(devices.filter(({ mode }) => (mode & 0o006) !== 0o006).map(({ gid }) => gid))].filter(
    (gid) => gid !== 0,
  );
}
