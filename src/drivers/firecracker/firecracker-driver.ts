import { statSync } from "node:fs";
import { join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";
import { SILENT } from "#base/log.ts";
import type { Log } from "#base/log.ts";
import type { OnProgress } from "#base/progress.ts";
import { Undo } from "#base/undo.ts";
import { END_WITH_OWN_RIGHTS } from "#drivers/end-vmm.ts";
import type { EndVmm } from "#drivers/end-vmm.ts";
import { lackingFeature } from "#drivers/can-run.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { findFault } from "#drivers/firecracker/api/version-features.ts";
import { inflateTo, readMemory } from "#drivers/firecracker/balloon.ts";
import { AGENT_VSOCK_PORT, firecrackerConfig, firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { firecrackerArguments, firecrackerJailFiles } from "#drivers/firecracker/command-line.ts";
import { limitDrives } from "#drivers/firecracker/disk-limits.ts";
import { firecrackerFeatures } from "#drivers/firecracker/features.ts";
import type { CachedKvmVerdict } from "#drivers/firecracker/features.ts";
import { FirecrackerSession } from "#drivers/firecracker/firecracker-session.ts";
import type { FirecrackerTiming } from "#drivers/firecracker/firecracker-session.ts";
import type { Firecracker, FoundFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import { readMetrics } from "#drivers/firecracker/read-metrics.ts";
import { checkRunFiles, makeRunFiles, removeRunFiles } from "#drivers/firecracker/run-dir.ts";
import { MemoryBase } from "#drivers/firecracker/memory-base.ts";
import { checkFilesExist, loadVm, resumeIfPaused, saveVm } from "#drivers/firecracker/vm-snapshot.ts";
import { memoryOf } from "#drivers/save-bounds.ts";
import { asSnapshotFailure } from "#drivers/snapshot-failure.ts";
import { describeHostCpu } from "#drivers/host-cpu.ts";
import type {
  Ballooner,
  BootPlan,
  DriverFeatures,
  Lacking,
  Meter,
  RateLimiter,
  RunSpec,
  SnapshotFiles,
  Snapshotter,
  StopMode,
  VmDriver,
  VmmMetrics,
  VmmWatcher,
} from "#drivers/vm-driver.ts";
import { planTiming } from "#drivers/vmm-session.ts";
import { VmmSessions } from "#drivers/vmm-sessions.ts";
import type { SessionLife } from "#drivers/vmm-sessions.ts";
import { startVmm } from "#drivers/starting-vmm.ts";
import type { StartingVmm } from "#drivers/starting-vmm.ts";
import { isAlive } from "#host/procfs.ts";
import { LIMITS } from "#model/limits.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

export type FirecrackerDriverOptions = {
  readonly find: (signal: AbortSignal) => Promise<FoundFirecracker>;
  /** Returns what is known of this host's KVM. */
  readonly kvm: (signal: AbortSignal) => Promise<CachedKvmVerdict>;
  /** Absolute path of a compiled system call filter that replaces Firecracker's own. */
  readonly seccompFilter?: string | undefined;
  readonly timing?: Partial<FirecrackerTiming> | undefined;
  /** The size limit of the console log, and of the VMM's log. */
  readonly logMaxBytes?: number | undefined;
  readonly log?: Log | undefined;
  /** Ends VMMs that may have another uid. Default: with hearthd's own rights. */
  readonly endVmm?: EndVmm | undefined;
};

const TIMING: FirecrackerTiming = {
  heartbeatMs: 5_000,
  answerDeadlineMs: 4_000,
  // 40 ms on an idle machine; a nested one with emulated KVM is a hundred times slower.
  startDeadlineMs: 30_000,
};
const NOT_TAKEN = "Firecracker refused the snapshot";

/** A Firecracker that was started to load a snapshot. */
type Loading = {
  readonly session: FirecrackerSession;
  readonly starting: StartingVmm;
  readonly plan: BootPlan;
  readonly saved: SnapshotFiles;
  readonly trackDirtyPages: boolean;
};

/**
 * Firecracker with KVM, in its own jailer or in Hearth's jail.
 *
 * Start, in `boot` and in `restore`:
 *   1. make the pipes and the links to the disks in the run directory
 *   2. start Firecracker, and record its console, log and metrics
 *   3. wait for the API, and check what isolation the kernel enforces
 *   4. in `boot`, configure the VM and seal the run directory; in `restore`, load the snapshot with paused vCPUs,
 *      compare it with the plan, seal the run directory, and check that no socket or pipe was replaced
 *   5. let the guest run, and check that Firecracker has loaded its system call filter
 *
 * A failure undoes the steps. `vm-snapshot.ts` has the steps of a save.
 */
export class FirecrackerDriver implements VmDriver {
  readonly name = "firecracker";
  readonly #options: FirecrackerDriverOptions;
  readonly #logMaxBytes: number;
  readonly #onTrouble: (path: string, error: unknown) => void;
  readonly #sessions: VmmSessions<FirecrackerSession>;

  constructor(options: FirecrackerDriverOptions) {
    const { logMaxBytes = LIMITS.logFileMaxBytes, log = SILENT, endVmm = END_WITH_OWN_RIGHTS } = options;
    this.#options = options;
    const timing = planTiming(TIMING, options.timing);
    const onTrouble = (path: string, error: unknown): void => log.event("clean.left_over", { path, error });
    this.#logMaxBytes = logMaxBytes;
    this.#onTrouble = onTrouble;
    const open = (handle: VmHandle, life: SessionLife): FirecrackerSession =>
      new FirecrackerSession(handle, { ...life, timing, logMaxBytes });
    this.#sessions = new VmmSessions({ driver: this.name, endVmm, onTrouble, open });
  }

  async features(signal: AbortSignal): Promise<DriverFeatures> {
    const [found, kvm] = [await this.#options.find(signal), await this.#options.kvm(signal)];
    return firecrackerFeatures(found, kvm, describeHostCpu());
  }

  async canRun(spec: RunSpec, signal: AbortSignal): Promise<Lacking | undefined> {
    return lackingFeature(this.name, await this.features(signal), spec);
  }

  async boot(plan: BootPlan, onProgress: OnProgress, signal: AbortSignal): Promise<VmHandle> {
    signal.throwIfAborted();
    const found = await this.#find(signal);
    onProgress({ stage: "boot", text: `starting Firecracker ${found.version}` });
    await new MemoryBase(plan.stateDir).remove(); // Left by an earlier VMM of this VM.
    await using undo = new Undo(this.#onTrouble);
    const { handle, session, starting } = await this.#startSession(plan, found, undo, signal);
    const boot = async (): Promise<void> => {
      const client = await session.firstClient(starting.hasEnded, signal);
      await starting.confirmIsolation({ seccomp: false });
      await client.configure(firecrackerConfig(plan), signal);
      await plan.isolation.seal();
      await client.startInstance(signal);
      await starting.confirmIsolation({ seccomp: true });
    };
    await starting.guard(boot(), signal);
    onProgress({ stage: "boot", text: "the kernel starts" });
    undo.keep();
    return handle;
  }

  recover(handle: VmHandle): Promise<boolean> {
    return this.#sessions.recover(handle);
  }

  watch(handle: VmHandle, on: VmmWatcher, signal: AbortSignal): void {
    this.#sessions.of(handle).watch(on, signal);
  }

  async pause(handle: VmHandle, signal: AbortSignal): Promise<void> {
    await this.#sessions.of(handle).request(async (client) => {
      // A VMM that was adopted after an upgrade of Hearth: versions with this fault are not started any more.
      const fault = findFault(client.version, "vm");
      if (fault !== undefined) throw fault;
      await client.pauseVm(signal);
    }, signal);
  }

  async resume(handle: VmHandle, signal: AbortSignal): Promise<void> {
    await this.#sessions.of(handle).request((client) => resumeIfPaused(client, signal), signal);
  }

  readonly rateLimiter: RateLimiter = {
    setLimits: (handle, limits, signal) =>
      this.#sessions.of(handle).request((client) => limitDrives(client, handle, limits, signal), signal),
  };

  readonly ballooner: Ballooner = {
    readMemory: (handle, signal) =>
      this.#sessions.of(handle).request((client) => readMemory(client, signal), signal),
    setMemory: (handle, bytes, signal) =>
      this.#sessions.of(handle).request((client) => inflateTo(client, bytes, signal), signal),
  };

  readonly meter: Meter = {
    readMetrics: (handle, signal) => {
      const session = this.#sessions.of(handle);
      const read = async (client: FirecrackerClient): Promise<VmmMetrics> =>
        readMetrics(await session.record(true, signal), client, signal);
      return session.request(read, signal);
    },
  };

  readonly snapshotter: Snapshotter = {
    save: (handle, saved, hooks, signal) => {
      const { saveDir, stateDir } = handle;
      if (saveDir === undefined) return Promise.reject(notPrepared());
      const place = { saveDir, base: new MemoryBase(stateDir) };
      const session = this.#sessions.of(handle);
      return session.occupy(async (client) => {
        const ask = async (): Promise<number> => (await readMemory(client, signal)).maxBytes;
        const memoryBytes = await memoryOf(handle.memoryBytes, ask);
        const alive = (): boolean => isAlive(handle.processes[0]);
        const { late } = session;
        const onTrouble = this.#onTrouble;
        await saveVm(
          { client, ...place, memoryBytes, isAlive: alive, late, onTrouble },
          saved,
          hooks,
          signal,
        );
      }, signal);
    },
    finalize: async (plan, saved, signal) => {
      signal.throwIfAborted();
      checkFilesExist(saved);
      const found = await this.#find(signal);
      await using undo = new Undo(this.#onTrouble);
      const { session, starting } = await this.#startSession(plan, found, undo, signal, saved);
      const client = await this.#load({ session, starting, plan, saved, trackDirtyPages: false }, signal);
      await client.describeInstance(signal);
    },
    restore: async (plan, saved, onProgress, signal) => {
      signal.throwIfAborted();
      checkFilesExist(saved);
      const found = await this.#find(signal);
      onProgress({ stage: "boot", text: `restoring with Firecracker ${found.version}` });
      await using undo = new Undo(this.#onTrouble);
      const { handle, session, starting } = await this.#startSession(plan, found, undo, signal, saved);
      const base = new MemoryBase(plan.stateDir);
      undo.add(plan.stateDir, () => base.remove());
      const trackDirtyPages = plan.saveDir !== undefined;
      const client = await this.#load({ session, starting, plan, saved, trackDirtyPages }, signal);
      if (trackDirtyPages) await base.keepMapped(saved.memory);
      await starting.guard(client.resumeVm(signal), signal);
      await starting.confirmIsolation({ seccomp: true });
      onProgress({ stage: "boot", text: "the guest resumes" });
      undo.keep();
      return handle;
    },
  };

  /** Both modes send SIGKILL: Firecracker has nothing that it would write at SIGTERM. */
  stop(handle: VmHandle, _mode: StopMode, signal: AbortSignal): Promise<VmExit> {
    return this.#sessions.stop(handle, 0, signal);
  }

  async #find(signal: AbortSignal): Promise<Firecracker> {
    const found = await this.#options.find(signal);
    if (found.ok) return found;
    throw new HearthError("vmm.missing", found.reason, { hint: found.hint });
  }

  /** Starts a process and records its console; `undo` gets the steps that undo this. */
  async #startSession(
    plan: BootPlan,
    found: Firecracker,
    undo: Undo,
    signal: AbortSignal,
    saved?: SnapshotFiles,
  ) {
    const files = firecrackerFiles(plan.runDir);
    undo.add(plan.runDir, () => removeRunFiles(plan.runDir));
    await makeRunFiles(plan, signal);
    const starting = await this.#start(plan, found, signal, saved);
    undo.add("process", () => starting.kill());
    const { launched } = starting;
    const handle: VmHandle = {
      driver: this.name,
      accel: "kvm",
      processes: [starting.process],
      launcher: launched.launcher,
      isolation: launched.inForce,
      disks: plan.disks.map(({ id }) => id),
      diskSerials: false,
      stateDir: plan.stateDir,
      saveDir: plan.saveDir,
      agentSocket: files.vsock,
      agentVsockPort: AGENT_VSOCK_PORT,
      monitorSocket: files.api,
      consoleSocket: files.console,
      memoryBytes: plan.memoryBytes,
    };
    const session = this.#sessions.add(handle, launched.exit);
    undo.add("session", () => this.#sessions.release(session));
    await session.record(false, signal);
    return { handle, session, starting };
  }

  /**
   * Loads the snapshot, and checks it; the vCPUs stay paused. Firecracker's refusal is reported before its exit code.
   */
  async #load(loading: Loading, signal: AbortSignal): Promise<FirecrackerClient> {
    const { session, starting, plan, saved, trackDirtyPages } = loading;
    const client = await starting.guard(session.firstClient(starting.hasEnded, signal), signal);
    await starting.confirmIsolation({ seccomp: false });
    let refused: unknown;
    const load = async (): Promise<void> => {
      try {
        await loadVm(client, plan, saved, signal, trackDirtyPages);
      } catch (error) {
        refused = error;
        throw error;
      }
    };
    try {
      await starting.guard(load(), signal);
    } catch (ended) {
      signal.throwIfAborted();
      throw asSnapshotFailure(NOT_TAKEN, bothReasons(refused, ended));
    }
    await plan.isolation.seal();
    checkRunFiles(plan);
    return client;
  }

  /** Starts the process; it does not answer yet. */
  async #start(
    plan: BootPlan,
    found: Firecracker,
    signal: AbortSignal,
    saved: SnapshotFiles | undefined,
  ): Promise<StartingVmm> {
    const files = firecrackerFiles(plan.runDir);
    // The jailer needs root, as a uid for each VM does. Otherwise the jail is built as for other VMMs, in a user
    // namespace.
    const jailer = plan.isolation.uid !== undefined ? found.jailer : undefined;
    const { seccompFilter } = this.#options;
    if (seccompFilter !== undefined && plan.isolation.seccomp) checkFilter(seccompFilter);
    const start = { byJailer: jailer !== undefined, seccompFilter, saved };
    const launch = {
      program: found.program,
      jailer,
      vmId: plan.id,
      args: firecrackerArguments(plan, start),
      files: firecrackerJailFiles(plan, start),
      fileMaxBytes: plan.fileMaxBytes ?? LIMITS.diskMaxBytes,
      dir: plan.runDir,
      logFile: join(plan.stateDir, VM_NAMES.vmmLog),
      stdout: files.console,
    };
    const { isolation } = plan;
    return startVmm({ name: "Firecracker", launch, isolation, logMaxBytes: this.#logMaxBytes }, signal);
  }
}

/**
 * Throws when there is no such filter: the start fails instead of falling back to none. Firecracker itself checks the
 * content, and ends when it is not a filter.
 */
function checkFilter(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isFile()) return;
  throw new HearthError("config.invalid", `firecracker.seccomp_filter: there is no file ${path}.`, {
    hint: "Compile one with Firecracker's seccompiler-bin, or leave the key out for the default filter of Firecracker.",
  });
}

function notPrepared(): HearthError {
  const hint = "Stop the VM and start it again.";
  return new HearthError("snapshot.failed", "The VM was started without a directory for snapshots.", {
    hint,
  });
}

/**
 * Joins the refusal and the reason of the end. Firecracker ends after it has refused a snapshot, and its stderr may say
 * more than the refusal.
 */
function bothReasons(refused: unknown, ended: unknown): unknown {
  if (refused === ended || !(refused instanceof HearthError)) return ended;
  return new HearthError(refused.code, refused.message, { hint: refused.hint, cause: ended });
}
