/**
 * A Hearth of its own for one test file: directories in a temporary place, the image cache shared by all of them
 * so that the suite builds an image once. Real hearthd, real QEMU, real guests.
 */
import { spawn } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, stringify } from "smol-toml";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { blockEventLoop } from "#base/event-loop.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcessesNaming } from "#host/find-processes.ts";
import { findProcess, listCommands } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import type { Vm } from "#api/wire.ts";
import { Hearth } from "#sdk/hearth.ts";
import { Transport } from "#sdk/transport.ts";
import { APART, startApart } from "#testing/apart-hearthd.ts";
import type { ApartHearthd } from "#testing/apart-hearthd.ts";
import { giveToApart, isApart, linkCache } from "./apart.ts";
import { runCli } from "./run-cli.ts";
import type { CliOptions, CliResult } from "./run-cli.ts";
import { environment, hasTemplates, linkTemplates } from "./templates.ts";
import { testedQemu } from "./tested-qemu.ts";
import { networkProcesses } from "./vm-namespace.ts";

const ROOT = join(import.meta.dirname, "..");
/** Any VM of the suite boots in much less; this ends a test that hangs. */
const COMMAND_MS = 180_000;
/** Between two looks at something that no event tells. */
const AGAIN_MS = 100;
/** Enough for what hearthd did in the last command, and few enough to read. */
const LOG_LINES = 40;

const VMMS = /^(qemu-system-|firecracker|jailer)/;
const LAUNCHERS = /^(bwrap|setpriv|prlimit)$/;
const PROGRAMS = new RegExp(`${VMMS.source}|${LAUNCHERS.source}`);

export type BedOptions = {
  /** Its config.toml. */
  readonly config?: string | undefined;
  /**
   * Whether this Hearth makes warm templates, and starts VMs from them. Unless told it makes none, because what was
   * made in the background would be among what tests count, and starts VMs from the run's templates where it has any:
   * so every test that does not say `false` shows that such a VM is like one that booted.
   */
  readonly warm?: boolean | undefined;
  /** VMs have the QEMU on PATH, whichever is tested. */
  readonly hostQemu?: boolean | undefined;
  /** hearthd is a user without rights, beside a helper that is root; as the run says unless told. */
  readonly apart?: boolean | undefined;
  /** hearthd is a user without rights, and has no helper. The test starts it with `PrivateInternet.startDaemon`. */
  readonly alone?: boolean | undefined;
};

export class Bed {
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly dirs: Dirs;
  /** hearthd's. */
  readonly uid: number;
  /** `hearth`, for Node to run. */
  readonly program = join(ROOT, "bin/hearth.ts");
  /** Whether hearthd is a user without rights, beside a helper. */
  readonly isApart: boolean;
  /** The user of a hearthd without a helper, if it is not the test's. */
  readonly user: typeof APART | undefined;
  #starting: Promise<ApartHearthd> | undefined;
  #lastApart: ApartHearthd | undefined;
  readonly #usesTemplates: boolean;
  readonly #hostQemu: boolean;
  /** The templates that all files of the run share. */
  readonly #templates: readonly string[];

  /** Cleaned up after the file's tests, whatever happened in them. */
  constructor(options: BedOptions = {}) {
    const { config = "", warm, hostQemu = false, alone = false, apart = !alone && isApart() } = options;
    const isUsers = apart || alone;
    this.isApart = apart;
    this.user = alone ? APART : undefined;
    this.uid = isUsers ? APART.uid : (process.geteuid?.() ?? 0);
    this.#hostQemu = hostQemu;
    this.#usesTemplates = warm === undefined && !hostQemu && hasTemplates();
    // Short, because socket paths hold 107 bytes.
    this.dir = mkdtempSync("/tmp/hb-");
    const cache = process.env["HEARTH_E2E_CACHE"] ?? join(homedir(), ".cache", "hearth-e2e");
    mkdirSync(cache, { recursive: true });
    this.env = environment(this.dir, isUsers ? join(this.dir, "cache") : cache);
    this.dirs = hearthDirs(this.env, this.dir);
    this.configure(config, warm === true || this.#usesTemplates);
    this.#templates = this.#usesTemplates ? linkTemplates(this.dirs) : [];
    if (isUsers) this.#giveToUser(join(cache, "hearth"));
    after(() => this.clear());
  }

  #giveToUser(cache: string): void {
    if (existsSync(cache)) linkCache(cache, this.dirs.cache);
    giveToApart(this.dir);
  }

  /** Starts hearthd where no command may: a command would start it with the rights of the test. */
  async #ensureDaemon(): Promise<void> {
    const { env, dirs, dir: logDir } = this;
    if (!this.isApart || (await new Transport(apiSocketPath(dirs)).answers())) return;
    this.#starting ??= startApart({ env, dirs, logDir, user: APART }).finally(
      () => (this.#starting = undefined),
    );
    this.#lastApart = await this.#starting;
  }

  /** For the next hearthd. `config` has the last word. */
  configure(config: string, warm: boolean): void {
    const { warm: given, ...others } = parse(config);
    mkdirSync(this.dirs.config, { recursive: true });
    const program = this.#hostQemu ? undefined : testedQemu();
    const drivers = program === undefined ? {} : { drivers: { qemu: { program } } };
    const document = { ...drivers, ...others, warm: { enabled: warm, ...(given as object | undefined) } };
    writeFileSync(join(this.dirs.config, "config.toml"), stringify(document));
  }

  /** Runs `hearth` with these words, as a user does. */
  async hearth(args: readonly string[], { env, ...options }: CliOptions = {}): Promise<CliResult> {
    await this.#ensureDaemon();
    return runCli(process.execPath, [this.program, ...this.#words(args)], {
      timeoutMs: COMMAND_MS,
      ...options,
      env: { ...this.env, ...env },
    });
  }

  /** Starts the command for a test that signals the program, or reads what it prints as it comes. */
  start(args: readonly string[]): ChildProcessWithoutNullStreams {
    if (this.isApart && this.daemon() === undefined)
      throw new Error("hearthd does not run; use hearth() first");
    const words = [this.program, ...this.#words(args)];
    const command = spawn(process.execPath, words, { env: { ...this.env } });
    command.stdin.on("error", () => {}); // It may end before it has read everything.
    return command;
  }

  /** Runs a command that must succeed, and returns its stdout. */
  async ok(args: readonly string[], options: CliOptions = {}): Promise<string> {
    return told(args, await this.hearth(args, options));
  }

  /**
   * The VMs, once a hearthd that has just started has recovered them. By the SDK, as `vm` and `sh` are: a program of
   * its own for each question would take half of the suite's CPU time, and most of the lab's.
   */
  async vms(): Promise<readonly Vm[]> {
    return this.#recovered(async (hearth) => {
      const vms = await hearth.vms.list(inTime());
      return vms.every(isRecovered) ? vms : undefined;
    });
  }

  /** Shows one VM, once it is recovered. */
  async vm(name: string): Promise<Vm> {
    return this.#recovered(async (hearth) => {
      const vm = await hearth.vm(name).show(inTime());
      return isRecovered(vm) ? vm : undefined;
    });
  }

  /** Runs `sh -c script` in this VM, and returns what it prints. */
  async sh(name: string, script: string): Promise<string> {
    const vm = (await this.connect()).vm(name);
    const { exitCode, stdout, stderr } = await vm.exec(["sh", "-c", script], { signal: inTime() });
    if (exitCode === 0) return stdout;
    throw new Error(`sh -c ${script} in ${name} ended with ${exitCode}\n${stdout}\n${stderr}`);
  }

  /** Resolves when this is so, and fails with the end of hearthd's log when it takes longer than any command. */
  async until(is: () => boolean | Promise<boolean>): Promise<void> {
    const signal = inTime();
    while (!(await is())) {
      if (signal.aborted) throw new Error(`waited for in vain:\n${String(is)}\n${this.log()}`);
      await sleep(AGAIN_MS);
    }
  }

  /** The last lines of hearthd's log. */
  log(): string {
    const file = join(this.dirs.state, "hearthd.log");
    return existsSync(file) ? readFileSync(file, "utf8").split("\n").slice(-LOG_LINES).join("\n") : "";
  }

  /** Connects the SDK to the same Hearth. Starts hearthd when it does not run, as each command does. */
  async connect(): Promise<Hearth> {
    await this.#ensureDaemon();
    return Hearth.connect({ env: this.env });
  }

  async #recovered<Value>(ask: (hearth: Hearth) => Promise<Value | undefined>): Promise<Value> {
    for (;;) {
      const value = await ask(await this.connect());
      if (value !== undefined) return value;
      await sleep(AGAIN_MS);
    }
  }

  /** Kills the helper. Returns the exit code of its hearthd, which ends with it. */
  async killHelper(): Promise<number | null> {
    if (this.#lastApart === undefined) throw new Error("This hearthd has no helper.");
    this.#lastApart.helper.kill("SIGKILL");
    return this.#lastApart.ended;
  }

  /** The hearthd that runs now. */
  daemon(): ProcessRef | undefined {
    for (const { pid, argv } of listCommands()) {
      if (argv.some((word) => /[/-]hearthd\.ts$/.test(word))) {
        const ref = findProcess(pid);
        if (ref !== undefined && environmentOf(pid).includes(`XDG_STATE_HOME=${this.env["XDG_STATE_HOME"]}`))
          return ref;
      }
    }
    return undefined;
  }

  vmms(): ProcessRef[] {
    return findProcessesNaming([this.dirs.run, this.dirs.state], VMMS);
  }

  /** Returns the processes that wait for the ends of VMMs. */
  launchers(): ProcessRef[] {
    return findProcessesNaming([this.dirs.run, this.dirs.state], LAUNCHERS);
  }

  /** Uids that VMs of this Hearth have, but for these. */
  uidLeases(ids: readonly string[] = []): number[] {
    const leases = "/run/hearth/uids";
    const ours = entries(leases).filter((name) => {
      const holder = readFileSync(join(leases, name), "utf8");
      return holder.includes(this.dir) && !ids.some((id) => holder.includes(id));
    });
    return ours.map(Number);
  }

  /** Returns the mounts in this Hearth's directories, as this process sees them. */
  mounts(): string[] {
    const points = readFileSync("/proc/self/mountinfo", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[4] ?? "");
    return points.filter((point) => point.startsWith(this.dir));
  }

  /** Returns the cgroups of all hearthds of this host, because they bear the ids of VMs alone. */
  cgroups(): string[] {
    return entries("/sys/fs/cgroup/hearth").filter((name) => name.startsWith("vm-"));
  }

  /** Lists what VMs that are gone have left, which must be nothing. `ids` are the VMs that exist. */
  leftovers(ids: readonly string[] = []): string[] {
    const own = ids.flatMap((id) => [join(this.dirs.run, "vms", id), join(this.dirs.state, "vms", id)]);
    const isOwn = (path: string): boolean => own.some((dir) => path.startsWith(dir));
    const theirs = new Set(findProcessesNaming(own, PROGRAMS).map(({ pid }) => pid));
    const others = [...this.vmms(), ...this.launchers()].filter(({ pid }) => !theirs.has(pid));
    const dirs = (path: string): string[] => entries(path).filter((name) => !ids.includes(name));
    return [
      ...others.map(({ pid }) => `process ${pid}`),
      ...dirs(join(this.dirs.run, "vms")).map((name) => `run directory ${name}`),
      ...dirs(join(this.dirs.state, "vms")).map((name) => `state directory ${name}`),
      ...dirs(join(this.dirs.state, "jails")).map((name) => `jail ${name}`),
      ...this.uidLeases(ids).map((uid) => `uid ${uid}`),
      ...this.mounts().map((point) => `mount ${point}`),
      ...this.snapshotDirs().map((name) => `snapshot ${name}`),
    ].filter((found) => !isOwn(found.replace("mount ", "")));
  }

  /** Lists snapshots and templates that were made on the way; those of the run are not among them. */
  snapshotDirs(): string[] {
    return entries(join(this.dirs.state, "snapshots")).filter((name) => !this.#templates.includes(name));
  }

  async clear(): Promise<void> {
    using _held = blockEventLoop(); // Neither a helper that ends nor a deadline keeps the test alive.
    const deadline = AbortSignal.timeout(30_000);
    const daemon = this.daemon();
    if (daemon !== undefined) await endProcess(daemon, 0, deadline);
    await this.#lastApart?.ended; // Its helper ends with it.
    const holders = networkProcesses(this.dir).flatMap((pid) => findProcess(pid) ?? []);
    for (const left of [...this.vmms(), ...this.launchers(), ...holders]) await endProcess(left, 0, deadline);
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** A VM of another shape makes none behind a test that counts VMMs. */
  #words([verb = "", ...more]: readonly string[]): string[] {
    const noWarm = this.#usesTemplates && (verb === "create" || verb === "run") ? ["--no-warm"] : [];
    return [verb, ...noWarm, ...more];
  }
}

/** The stdout of a command that must have succeeded. */
function told(args: readonly string[], { code, stdout, stderr }: CliResult): string {
  if (code === 0) return stdout;
  throw new Error(`hearth ${args.join(" ")} ended with ${code}\n${stdout}\n${stderr}`);
}

function isRecovered({ recovering }: Vm): boolean {
  return recovering !== true;
}

function inTime(): AbortSignal {
  return AbortSignal.timeout(COMMAND_MS);
}

function entries(dir: string): string[] {
  return existsSync(dir) ? readdirSync(dir) : [];
}

/** Returns the environment of a process that may end right now. */
function environmentOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
  } catch {
    return [];
  }
}
