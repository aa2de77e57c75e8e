/** Starts a VMM with the isolation of its boot. Its process is known, and in its cgroup, before it runs. */
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

/** In the environment of a VMM's launcher: the id of the VM. It tells the launchers of a port that is gone. */
export const LAUNCH_MARK = "HEARTH_VM";
/** A launcher answers in 5 ms on an idle machine. */
const LAUNCH_DEADLINE_MS = 30_000;

/**
 * Starts a VMM. Its files are open already: who opens them decides with whose rights.
 * @throws HearthError `vmm.missing`; `host.tool_missing`, `feature.missing` where this host has no such isolation; what
 * `prepare` throws. Nothing is left then. A VMM that ends at once is no error here: its `exit` tells.
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
  return launchHeld({ ...stdio, dir, umask, fds, vmId: launch.vmId }, jailCommand(plan, host), prepare);
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

/** What a launcher is started with besides its command. */
type HeldLaunch = VmmStdio &
  Pick<LaunchIsolation, "umask"> & {
    readonly dir: string;
    readonly vmId: string;
    readonly fds?: readonly number[];
  };

/**
 * Starts a launcher that tells the VMM's pid on its fd 3 and holds it back until its fd 4 has something to read.
 * @throws HearthError `vmm.unresponsive` when it tells nothing in time; it has ended then, with all its children
 */
export async function launchHeld(
  { dir, vmId, umask, fds, stdin, stdout, log }: HeldLaunch,
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
    // Whoever cancels waits for this: only with its pid known can the VMM be ended for sure.
    vmm = childOf(await inTime(waiting.told, LAUNCH_DEADLINE_MS, launcherSilent));
    if (vmm !== undefined) await prepare(vmm);
  } catch (error) {
    return await failAfter(error, () => endAll([vmm, ...stopFamily(launcher)]));
  } finally {
    waiting.release(); // Not before: it would let a VMM run that nobody has put into its cgroup.
  }
  return { process: vmm, launcher, exit };
}

function launcherSilent(): HearthError {
  return new HearthError(
    "vmm.unresponsive",
    `The launcher of the VMM said nothing for ${LAUNCH_DEADLINE_MS} ms.`,
  );
}

/** `{"child-pid": 4711, …}`; empty where the launcher has failed, which its exit and the log tell. */
function childOf(told: string): ProcessRef | undefined {
  const pid = Number(/"child-pid"\s*:\s*(\d+)/.exec(told)?.[1]);
  return Number.isInteger(pid) ? findProcess(pid) : undefined;
}

/** The launcher and its children: those of a launcher that is killed would live on, held back for ever. */
function stopFamily(launcher: ProcessRef | undefined): ProcessRef[] {
  if (launcher === undefined) return [];
  signalProcess(launcher, "SIGSTOP"); // It makes no more of them.
  return [...findDescendants(launcher), launcher];
}

async function endAll(processes: readonly (ProcessRef | undefined)[]): Promise<void> {
  for (const one of processes) if (one !== undefined) await endProcess(one, 0, new AbortController().signal);
}

/** Launchers end as shells do: 128 and the number of the signal that ended their child. */
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

/** All that a VMM in a jail needs, its program's own files among them; a jailer makes a copy of the program. */
export function jailFiles({
  program,
  jailer,
  files,
}: Pick<VmmLaunch, "program" | "jailer" | "files">): JailFile[] {
  return jailer === undefined ? [...programFiles(realProgram(program)), ...files] : [...files];
}

/** The jailer makes device files there, which a file system may refuse to be. */
function checkDevices(root: string): void {
  const mount = mountOf(root);
  if (mount === undefined || !mount.options.includes("nodev")) return;
  throw new HearthError(
    "feature.missing",
    `The jailer cannot make devices in ${root}: ${mount.point} is mounted with nodev.`,
    { hint: "Mount it without nodev, or set HEARTH_HOME to a directory elsewhere." },
  );
}

/** Directories and empty files to mount on. The directory is new: the jailer refuses to find its own files there. */
function makeMountPoints(root: string, files: readonly JailFile[]): void {
  mkdirSync(root, { recursive: true });
  checkDevices(root);
  for (const file of files) {
    const point = join(root, pathInside(file));
    const isDir = (file.fd === undefined ? statSync(file.path) : fstatSync(file.fd)).isDirectory();
    const dir = isDir ? point : dirname(point);
    mkdirSync(dir, { recursive: true });
    // Whatever our umask is: the VMM has an own uid, and passes through them to its files.
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

/** A uid of its own is in no group; it gets those of its devices, unless everybody may use them. */
function deviceGroups(files: readonly JailFile[]): number[] {
  const devices = files.filter(({ access }) => access === "device").map(({ path }) => statSync(path));
  return [...new Set(devices.filter(({ mode }) => (mode & 0o006) !== 0o006).map(({ gid }) => gid))].filter(
    (gid) => gid !== 0,
  );
}
