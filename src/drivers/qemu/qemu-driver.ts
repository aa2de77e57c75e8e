import { accessSync, constants } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { HearthError, invariant } from "#base/error.ts";
import { SILENT } from "#base/log.ts";
import type { Log } from "#base/log.ts";
import type { OnProgress } from "#base/progress.ts";
import { Undo } from "#base/undo.ts";
import { lackingFeature } from "#drivers/can-run.ts";
import { END_WITH_OWN_RIGHTS } from "#drivers/end-vmm.ts";
import type { EndVmm } from "#drivers/end-vmm.ts";
import { plannedLimits } from "#drivers/device-limits.ts";
import { migrationSocket, qemuArguments, qemuFiles, qemuSockets } from "#drivers/qemu/command-line.ts";
import type { QemuMachine } from "#drivers/qemu/command-line.ts";
import { assertFrees, inflateTo, readMemory } from "#drivers/qemu/balloon.ts";
import { limitDisks } from "#drivers/qemu/disk-limits.ts";
import { mapsReadOnly } from "#drivers/qemu/guest-memory.ts";
import type { MemoryFile } from "#drivers/qemu/guest-memory.ts";
import { MemoryCopy } from "#drivers/qemu/memory-copy.ts";
import { draftPath, loadVm, saveVm, finalizeVm, streamPath } from "#drivers/qemu/vm-snapshot.ts";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { findFirmware, qemuFeatures } from "#drivers/qemu/features.ts";
import { DEFAULT_QEMU } from "#drivers/qemu/installed-qemu.ts";
import type { KvmVerdicts } from "#drivers/qemu/kvm-verdicts.ts";
import { readTscKhz } from "#drivers/qemu/host-clock.ts";
import { resumeVm } from "#drivers/qemu/resume-vm.ts";
import { QemuSession } from "#drivers/qemu/qemu-session.ts";
import type { QemuTiming } from "#drivers/qemu/qemu-session.ts";
import { memoryOf } from "#drivers/save-bounds.ts";
import { asSnapshotFailure } from "#drivers/snapshot-failure.ts";
import { startVmm } from "#drivers/starting-vmm.ts";
import type { StartingVmm } from "#drivers/starting-vmm.ts";
import type {
  Ballooner,
  BootPlan,
  DriverFeatures,
  Lacking,
  RateLimiter,
  RunSpec,
  SnapshotFiles,
  Snapshotter,
  StopMode,
  VmDriver,
  VmmWatcher,
} from "#drivers/vm-driver.ts";
import { planTiming } from "#drivers/vmm-session.ts";
import { VmmSessions } from "#drivers/vmm-sessions.ts";
import type { SessionLife } from "#drivers/vmm-sessions.ts";
import { moveFile } from "#host/move-file.ts";
import { checkSocketPath, removeStaleSocket } from "#host/unix-socket.ts";
import { LIMITS } from "#model/limits.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

export type Accel = "kvm" | "tcg";

export type QemuDriverOptions = {
  /** The name of a program on PATH, or an absolute path. */
  readonly program?: string | undefined;
  /** The accelerator of all guests, or `KvmVerdicts`, which decides at the first boot. Default: emulation. */
  readonly accel?: Accel | KvmVerdicts | undefined;
  readonly timing?: Partial<QemuTiming> | undefined;
  /** The size limit of the console log, and of the VMM's log. */
  readonly logMaxBytes?: number | undefined;
  readonly log?: Log | undefined;
  /** Ends VMMs that may have another uid. Default: with hearthd's own rights. */
  readonly endVmm?: EndVmm | undefined;
};

const TIMING: QemuTiming = {
  heartbeatMs: 5_000,
  answerDeadlineMs: 4_000,
  commandDeadlineMs: 10_000,
  // 60 ms on an idle machine; a loaded one with slow disks took 100 times that.
  startDeadlineMs: 30_000,
  terminateMs: 5_000,
};
const NOT_TAKEN = "QEMU refused the snapshot";

/**
 * QEMU's `microvm` machine, with KVM or in emulation.
 *
 * Start, in `boot` and in `restore`:
 *   1. remove what an earlier QEMU has left in the run directory, and start QEMU with paused vCPUs
 *   2. connect to the monitor, and check what isolation the kernel enforces
 *   3. record the console, and seal the run directory
 *   4. `restore` only: load the VM state file
 *   5. set the limits of the disks, and resume the vCPUs
 *
 * A failure undoes the steps. `vm-snapshot.ts` has the steps of a save.
 */
export class QemuDriver implements VmDriver {
  readonly name = "qemu";
  readonly #program: string;
  readonly #accel: Accel | KvmVerdicts;
  readonly #timing: QemuTiming;
  readonly #logMaxBytes: number;
  readonly #onTrouble: (path: string, error: unknown) => void;
  readonly #sessions: VmmSessions<QemuSession>;

  constructor(options: QemuDriverOptions = {}) {
    const { logMaxBytes = LIMITS.logFileMaxBytes, log = SILENT, endVmm = END_WITH_OWN_RIGHTS } = options;
    this.#program = options.program ?? DEFAULT_QEMU;
    this.#accel = options.accel ?? "tcg";
    const timing = planTiming(TIMING, options.timing);
    const onTrouble = (path: string, error: unknown): void => log.event("clean.left_over", { path, error });
    this.#timing = timing;
    this.#logMaxBytes = logMaxBytes;
    this.#onTrouble = onTrouble;
    const open = (handle: VmHandle, life: SessionLife): QemuSession =>
      new QemuSession(handle, { ...life, timing, logMaxBytes });
    this.#sessions = new VmmSessions({ driver: this.name, endVmm, onTrouble, open });
  }

  async features(signal: AbortSignal): Promise<DriverFeatures> {
    if (typeof this.#accel === "string") return qemuFeatures(this.#program, this.#accel, signal);
    const { accel, assumed } = await this.#accel.accelSoFar(signal);
    const features = await qemuFeatures(this.#program, accel, signal);
    // The caveats of emulation are given once a guest has shown that KVM does not work.
    return assumed ? { ...features, accelAssumed: true, caveats: [] } : features;
  }

  async canRun(spec: RunSpec, signal: AbortSignal): Promise<Lacking | undefined> {
    return lackingFeature(this.name, await this.features(signal), spec);
  }

  async boot(plan: BootPlan, onProgress: OnProgress, signal: AbortSignal): Promise<VmHandle> {
    signal.throwIfAborted();
    const accel = typeof this.#accel === "string" ? this.#accel : await this.#accel.accelFor(plan, signal);
    const firmware = await findFirmware(this.#program, signal);
    onProgress({ stage: "boot", text: "starting QEMU" });
    return this.#launch(plan, { accel, firmware, tscKhz: readTscKhz() }, onProgress, signal);
  }

  /** Starts a QEMU and lets its guest run: from the kernel, or from a VM state file if the machine has one. */
  async #launch(
    plan: BootPlan,
    machine: QemuMachine,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<VmHandle> {
    await using undo = new Undo(this.#onTrouble);
    const { handle, session, starting } = await this.#startSession(plan, machine, undo, signal);
    await starting.guard(this.#letRun(session, starting, plan, machine, signal), signal);
    onProgress({
      stage: "boot",
      text: machine.incoming === undefined ? "the kernel starts" : "the guest resumes",
    });
    undo.keep();
    return handle;
  }

  /** Starts a QEMU and opens its session; `undo` gets the steps that undo this. */
  async #startSession(plan: BootPlan, machine: QemuMachine, undo: Undo, signal: AbortSignal) {
    const sockets = qemuSockets(plan.runDir);
    const all = [...Object.values(sockets), migrationSocket(plan.runDir)];
    for (const path of all) {
      checkSocketPath(path);
      removeStaleSocket(path);
    }
    undo.add(plan.runDir, () => all.forEach(removeStaleSocket));
    const starting = await this.#start(plan, machine, signal);
    undo.add("process", () => starting.kill());
    const handle: VmHandle = {
      driver: this.name,
      accel: machine.accel,
      processes: [starting.process],
      launcher: starting.launched.launcher,
      isolation: starting.launched.inForce,
      disks: plan.disks.map(({ id }) => id),
      diskSerials: true,
      stateDir: plan.stateDir,
      agentSocket: sockets.agent,
      monitorSocket: sockets.monitor,
      consoleSocket: sockets.console,
      sharesMemory: machine.memory?.map === "shared",
      memoryBytes: plan.memoryBytes,
    };
    const session = this.#sessions.add(handle, starting.launched.exit);
    undo.add("session", () => this.#sessions.release(session));
    return { handle, session, starting };
  }

  recover(handle: VmHandle): Promise<boolean> {
    return this.#sessions.recover(handle);
  }

  watch(handle: VmHandle, on: VmmWatcher, signal: AbortSignal): void {
    this.#sessions.of(handle).watch(on, signal);
  }

  async pause(handle: VmHandle, signal: AbortSignal): Promise<void> {
    const monitor = await this.#sessions.of(handle).monitor(signal);
    await monitor.send("stop", undefined, this.#timing.commandDeadlineMs);
  }

  async resume(handle: VmHandle, signal: AbortSignal): Promise<void> {
    const monitor = await this.#sessions.of(handle).monitor(signal);
    await resumeVm(monitor, this.#timing.commandDeadlineMs, signal);
  }

  readonly rateLimiter: RateLimiter = {
    setLimits: async (handle, limits, signal) => {
      const monitor = await this.#sessions.of(handle).monitor(signal);
      await limitDisks(monitor, limits, this.#timing.commandDeadlineMs);
    },
  };

  readonly ballooner: Ballooner = {
    readMemory: async (handle, signal) => {
      const monitor = await this.#sessions.of(handle).monitor(signal);
      return readMemory(monitor, this.#timing.commandDeadlineMs);
    },
    setMemory: async (handle, bytes, signal) => {
      const monitor = await this.#sessions.of(handle).monitor(signal);
      const { commandDeadlineMs } = this.#timing;
      assertFrees(handle, await readMemory(monitor, commandDeadlineMs), bytes);
      return inflateTo(monitor, bytes, commandDeadlineMs, signal);
    },
  };

  readonly snapshotter: Snapshotter = {
    save: async (handle, saved, hooks, signal) => {
      const monitor = await this.#sessions.of(handle).monitor(signal);
      const { commandDeadlineMs: deadlineMs } = this.#timing;
      const ask = async (): Promise<number> => (await readMemory(monitor, deadlineMs)).maxBytes;
      const memoryBytes = await memoryOf(handle.memoryBytes, ask);
      const { accel } = handle;
      const qemu = { monitor, runDir: dirname(handle.monitorSocket), accel, memoryBytes, deadlineMs };
      await saveVm(qemu, saved, hooks, signal);
    },
    finalize: (plan, saved, signal) => orSnapshotFailure(this.#finalize(plan, saved, signal), signal),
    restore: async (plan, saved, onProgress, signal) => {
      signal.throwIfAborted();
      onProgress({ stage: "boot", text: "restoring" });
      return orSnapshotFailure(this.#restore(plan, saved, onProgress, signal), signal);
    },
  };

  /**
   * Starts the VM from the guest memory file itself where QEMU can open it read-only, otherwise from this VM's own
   * copy.
   */
  async #restore(
    plan: BootPlan,
    saved: SnapshotFiles,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<VmHandle> {
    const { version = "0" } = await this.features(signal);
    const start = async (memory: MemoryFile): Promise<VmHandle> =>
      this.#launch(plan, await this.#machineFor(memory, saved.state, signal), onProgress, signal);
    if (mapsReadOnly(version)) return start({ path: saved.memory, map: "shared" });
    await using copy = await MemoryCopy.make(plan, saved.memory, signal);
    return await start({ path: copy.path, map: "own" });
  }

  /** Verifies a save. QEMU writes into a draft; the final files are never QEMU's to write. */
  async #finalize(plan: BootPlan, saved: SnapshotFiles, signal: AbortSignal): Promise<void> {
    invariant(plan.saveDir !== undefined, "what is saved has a directory");
    const draft = draftPath(plan.saveDir);
    await rm(draft, { force: true });
    const machine = await this.#machineFor({ path: draft, map: "draft" }, streamPath(saved), signal);
    await using undo = new Undo(this.#onTrouble);
    undo.add(draft, () => rm(draft, { force: true }));
    const { session, starting } = await this.#startSession(plan, machine, undo, signal);
    const load = async (): Promise<void> => {
      const monitor = await this.#firstMonitor(session, starting, plan, signal);
      const { commandDeadlineMs: deadlineMs } = this.#timing;
      const { runDir, memoryBytes } = plan;
      const { accel } = machine;
      await finalizeVm({ monitor, runDir, memoryBytes, deadlineMs, accel }, saved, signal);
    };
    await starting.guard(load(), signal);
    await starting.kill();
    await rm(streamPath(saved));
    // The last step, because this move syncs the directory with everything in it.
    await moveFile(draft, saved.memory, saved.temporary !== true, signal);
  }

  /** Describes the machine of a QEMU that loads what another QEMU has saved. */
  async #machineFor(memory: MemoryFile, incoming: string, signal: AbortSignal): Promise<QemuMachine> {
    const { accel } = await this.features(signal);
    const firmware = await findFirmware(this.#program, signal);
    return { accel, firmware, tscKhz: readTscKhz(), memory, incoming };
  }

  stop(handle: VmHandle, mode: StopMode, signal: AbortSignal): Promise<VmExit> {
    return this.#sessions.stop(handle, mode === "kill" ? 0 : this.#timing.terminateMs, signal);
  }

  /** Starts the process and its log; QEMU does not answer yet. */
  async #start(plan: BootPlan, machine: QemuMachine, signal: AbortSignal): Promise<StartingVmm> {
    const launch = {
      program: this.#program,
      args: qemuArguments(plan, machine),
      files: qemuFiles(plan, machine),
      fileMaxBytes: plan.fileMaxBytes ?? LIMITS.diskMaxBytes,
      vmId: plan.id,
      logFile: join(plan.stateDir, VM_NAMES.vmmLog),
    };
    const { incoming: stdin } = machine;
    if (stdin !== undefined) checkReadable(stdin);
    const { isolation } = plan;
    const logMaxBytes = this.#logMaxBytes;
    return startVmm({ name: "QEMU", launch: { ...launch, stdin }, isolation, logMaxBytes }, signal);
  }

  async #letRun(
    session: QemuSession,
    starting: StartingVmm,
    plan: BootPlan,
    machine: QemuMachine,
    signal: AbortSignal,
  ): Promise<void> {
    const { commandDeadlineMs } = this.#timing;
    const monitor = await this.#firstMonitor(session, starting, plan, signal);
    if (machine.incoming !== undefined) {
      const inTime = AbortSignal.any([signal, AbortSignal.timeout(this.#timing.startDeadlineMs)]);
      await loadVm(monitor, commandDeadlineMs, inTime);
    }
    if (plan.disks.some(({ limit }) => limit !== undefined))
      await limitDisks(monitor, plannedLimits(plan), commandDeadlineMs);
    await monitor.send("cont", undefined, commandDeadlineMs);
  }

  /**
   * Connects to the monitor, and records the console from its first byte on. Then seals the run directory: a QEMU whose
   * monitor answers has made all of its sockets, and what it loads later may take it over.
   */
  async #firstMonitor(
    session: QemuSession,
    starting: StartingVmm,
    plan: BootPlan,
    signal: AbortSignal,
  ): Promise<QmpMonitor> {
    const { startDeadlineMs } = this.#timing;
    const late = AbortSignal.timeout(startDeadlineMs);
    try {
      const either = AbortSignal.any([signal, late]);
      const monitor = await session.firstMonitor(() => starting.ended, either);
      await starting.confirmIsolation({ seccomp: true });
      await session.record(false, either);
      await plan.isolation.seal();
      return monitor;
    } catch (error) {
      if (!late.aborted || signal.aborted) throw error;
      throw new HearthError(
        "vmm.unresponsive",
        `QEMU did not answer within ${startDeadlineMs} ms after its start.`,
      );
    }
  }
}

function checkReadable(path: string): void {
  try {
    accessSync(path, constants.R_OK);
  } catch (cause) {
    throw new HearthError("snapshot.failed", `The snapshot is incomplete: cannot read ${path}`, {
      cause,
    });
  }
}

/**
 * Gives the failure of a QEMU that refuses a snapshot the code that callers expect. QEMU ends then; its stderr has the
 * reason.
 */
async function orSnapshotFailure<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    throw signal.aborted ? error : asSnapshotFailure(NOT_TAKEN, error);
  }
}
