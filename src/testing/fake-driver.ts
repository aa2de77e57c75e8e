/**
 * A driver in memory that keeps the promises of the real ones. Its "processes" outlive the object that started them, as
 * real ones outlive hearthd: of two drivers with one `FakeVmms`, the second finds the processes of the first.
 */
import { HearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import { lackingFeature } from "#drivers/can-run.ts";
import type {
  Ballooner,
  BootPlan,
  DriverFeatures,
  Lacking,
  Meter,
  RateLimiter,
  RunSpec,
  Snapshotter,
  StopMode,
  VmDriver,
  VmmStatus,
  VmmWatcher,
} from "#drivers/vm-driver.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import type { Gate } from "#testing/gate.ts";
import { lackingFor, lackingLimits } from "#testing/lacking.ts";
import { FakeSnapshotter } from "#testing/fake-snapshotter.ts";
import type { Kept } from "#testing/fake-snapshotter.ts";
import { FakeVmms } from "#testing/fake-vmms.ts";
import type { FakeVmm } from "#testing/fake-vmms.ts";

const BOOT_ID = "00000000-0000-4000-8000-00000000fa4e";

/** The next faults. Each is used up by the boot or stop that it breaks. */
export type FakeFaults = {
  /** The boot throws this, and leaves nothing. */
  bootError?: Error | undefined;
  /** The boot waits until its signal aborts. */
  bootHangs?: boolean | undefined;
  /** The VMM dies right after its boot, before anybody watches it. */
  diesAtOnce?: boolean | undefined;
  stopError?: Error | undefined;
  /** Each breaks one call of that name; a save that fails has written a file by then. */
  saveError?: Error | undefined;
  finalizeError?: Error | undefined;
  restoreError?: Error | undefined;
  /** Each delays one call of that name before it has done anything. */
  bootGate?: Gate | undefined;
  saveGate?: Gate | undefined;
  finalizeGate?: Gate | undefined;
  restoreGate?: Gate | undefined;
  /** Keeps the guest from freeing memory while it is set. */
  balloonStuck?: boolean | undefined;
};

export type FakeDriverOptions = {
  readonly name?: string;
  readonly vmms?: FakeVmms;
  /** Called between steps that are separate for a real driver, too. */
  readonly did?: (effect: string) => Promise<void>;
};

/** Boots nothing, and keeps every promise of `VmDriver` all the same. */
export class FakeDriver implements VmDriver {
  readonly name: string;
  readonly vmms: FakeVmms;
  readonly faults: FakeFaults = {};
  /** Tests change it to make the host less able. */
  description: DriverFeatures = {
    available: { ok: true },
    version: "1.0.0",
    accel: "tcg",
    pause: true,
    diskSerials: true,
    layeredDisks: true,
    snapshots: { diskFormat: "raw", vmmFingerprint: "fake 1.0.0", caveats: [] },
    kernelFormat: "bzimage",
    preference: 1,
    nested: { cpusMax: 1 },
    networks: ["none", "nat"],
    limits: { disk: true, net: true },
    balloon: true,
    hotplug: { disk: false },
    caveats: ["nothing runs: this driver is a fake"],
    agentDeadlineMs: 1_000,
    bootRetries: 1,
    vmmOverheadBytes: 0,
  };
  /** The names of calls, in order. */
  readonly calls: string[] = [];
  /** Requests for features that `description` denies; each time, the caller got an error. */
  readonly askedInVain: string[] = [];
  /** Most drivers have none. */
  meter: Meter | undefined;
  /** True if its VMs' agents listen on vsock. */
  vsock = false;
  readonly #did: (effect: string) => Promise<void>;

  constructor({ name = "fake", vmms = new FakeVmms(), did = async () => {} }: FakeDriverOptions = {}) {
    this.name = name;
    this.vmms = vmms;
    this.#did = did;
  }

  features(signal: AbortSignal): Promise<DriverFeatures> {
    signal.throwIfAborted();
    return Promise.resolve(this.description);
  }

  async canRun(spec: RunSpec, signal: AbortSignal): Promise<Lacking | undefined> {
    return lackingFeature(this.name, await this.features(signal), spec);
  }

  async boot(plan: BootPlan, onProgress: OnProgress, signal: AbortSignal): Promise<VmHandle> {
    this.calls.push(`boot ${plan.name}`);
    await this.#wait("bootGate", signal);
    return this.#start(plan, undefined, onProgress, signal);
  }

  async #start(
    plan: BootPlan,
    from: Kept | undefined,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<VmHandle> {
    signal.throwIfAborted();
    const { available } = this.description;
    if (!available.ok) throw new HearthError("vmm.missing", available.reason, { hint: available.hint });
    const { bootError, bootHangs, diesAtOnce } = this.faults;
    delete this.faults.bootError;
    delete this.faults.bootHangs;
    delete this.faults.diesAtOnce;
    this.#refuse(lackingFor(this.description, plan));
    onProgress({ stage: "boot", text: "starting the fake" });
    if (bootHangs) await untilAborted(signal);
    if (bootError !== undefined) throw bootError;
    signal.throwIfAborted();
    const vmm = this.vmms.start(plan, from);
    if (diesAtOnce) this.vmms.end(vmm, { reason: "died", code: 1, atMs: Date.now() });
    return this.#handle(vmm);
  }

  recover(handle: VmHandle): Promise<boolean> {
    this.calls.push("recover");
    return Promise.resolve(this.#find(handle) !== undefined);
  }

  watch(handle: VmHandle, on: VmmWatcher, signal: AbortSignal): void {
    if (signal.aborted) return;
    const vmm = this.#same(handle);
    if (vmm === undefined || vmm.exit !== undefined) {
      const exit = vmm?.exit ?? ({ reason: "died", atMs: Date.now() } as const);
      queueMicrotask(() => void (signal.aborted || on.exited(exit)));
      return;
    }
    vmm.watchers.add(on);
    const now = vmm.phase;
    if (now !== "gone") queueMicrotask(() => void (vmm.watchers.has(on) && on.status?.(now)));
    signal.addEventListener("abort", () => vmm.watchers.delete(on), { once: true });
  }

  async pause(handle: VmHandle, signal: AbortSignal): Promise<void> {
    this.calls.push("pause");
    signal.throwIfAborted();
    this.#refuse(this.description.pause ? [] : ["a pause"]);
    this.#get(handle).phase = "paused";
  }

  async resume(handle: VmHandle, signal: AbortSignal): Promise<void> {
    this.calls.push("resume");
    signal.throwIfAborted();
    this.#get(handle).phase = "running";
  }

  readonly rateLimiter: RateLimiter = {
    setLimits: async (handle, limits, signal) => {
      this.calls.push("set limits");
      signal.throwIfAborted();
      const { limits: can } = this.description;
      this.#refuse(can.disk || can.net ? lackingLimits(this.description, limits) : ["limits"]);
      const vmm = this.#get(handle);
      vmm.limits = {
        disks: replaced(vmm.limits.disks, limits.disks),
        nics: replaced(vmm.limits.nics, limits.nics),
      };
    },
  };

  readonly ballooner: Ballooner = {
    readMemory: async (handle, signal) => {
      signal.throwIfAborted();
      this.#refuse(this.description.balloon ? [] : ["the guest's memory"]);
      const { memoryBytes, plan } = this.#get(handle);
      return { bytes: memoryBytes, maxBytes: plan.memoryBytes };
    },
    setMemory: async (handle, bytes, signal) => {
      this.calls.push(`set memory ${bytes}`);
      signal.throwIfAborted();
      this.#refuse(this.description.balloon ? [] : ["a balloon"]);
      const vmm = this.#get(handle);
      // A guest that has no balloon driver never moves.
      if (!this.faults.balloonStuck) vmm.memoryBytes = bytes;
      return { bytes: vmm.memoryBytes, maxBytes: vmm.plan.memoryBytes };
    },
  };

  /** Undefined to have none; its feature has to be removed as well. */
  snapshotter: Snapshotter | undefined = new FakeSnapshotter({
    version: () => this.description.version ?? "",
    get: (handle) => this.#get(handle),
    called: (what) => {
      this.calls.push(what);
      this.#refuse(this.description.snapshots === undefined ? [`a ${what}`] : []);
    },
    spoil: (what) => this.#spoil(`${what}Error`),
    did: (what) => this.#did(what),
    wait: (what, signal) => this.#wait(`${what}Gate`, signal),
    load: (plan, from) => {
      const vmm = this.vmms.start(plan, from, "paused");
      return () => void this.vmms.end(vmm, { reason: "asked", atMs: Date.now() });
    },
    start: (plan, from, onProgress, signal) => this.#start(plan, from, onProgress, signal),
  });

  async stop(handle: VmHandle, mode: StopMode, signal: AbortSignal): Promise<VmExit> {
    this.calls.push(`stop ${mode}`);
    signal.throwIfAborted();
    this.#spoil("stopError");
    const vmm = this.#same(handle);
    if (vmm === undefined) return { reason: "died", atMs: Date.now() };
    const signalName = mode === "kill" ? "SIGKILL" : "SIGTERM";
    return this.vmms.end(vmm, { reason: "asked", signal: signalName, atMs: Date.now() });
  }

  /** The guest powers itself off. */
  powerOff(handle: VmHandle): void {
    this.vmms.end(this.#get(handle), { reason: "guest", code: 0, atMs: Date.now() });
  }
  /** The VMM dies, as after kill -9. */
  crash(handle: VmHandle): void {
    this.vmms.end(this.#get(handle), { reason: "died", signal: "SIGKILL", atMs: Date.now() });
  }
  /** The VMM has not answered for this long; 0: it answers again. */
  beSilent(handle: VmHandle, silentMs: number): void {
    for (const watcher of this.#get(handle).watchers) watcher.silent(silentMs);
  }
  /** The VMM reports this about its vCPUs, true or not. */
  tell(handle: VmHandle, status: VmmStatus): void {
    for (const watcher of this.#get(handle).watchers) watcher.status?.(status);
  }
  /** Returns everything that is left; empty after every VM was stopped. */
  leftovers(): string[] {
    return this.vmms.running().map((vmm) => `VMM ${vmm.pid} of ${vmm.plan.name}`);
  }

  async #wait(
    what: "bootGate" | "saveGate" | "finalizeGate" | "restoreGate",
    signal: AbortSignal,
  ): Promise<void> {
    const gate = this.faults[what];
    delete this.faults[what];
    await gate?.pass(signal);
  }

  /** A real driver may do something worse. */
  #refuse(lacking: readonly string[]): void {
    if (lacking.length === 0) return;
    this.askedInVain.push(...lacking);
    throw new Error(`${this.name} was asked for ${lacking.join(" and ")}, and its features deny that.`);
  }

  /** Throws the next fault, once. */
  #spoil(what: "stopError" | "saveError" | "finalizeError" | "restoreError"): void {
    const error = this.faults[what];
    delete this.faults[what];
    if (error !== undefined) throw error;
  }

  #handle(vmm: FakeVmm): VmHandle {
    const { runDir, stateDir } = vmm.plan;
    return {
      driver: this.name,
      accel: this.description.accel,
      processes: [{ pid: vmm.pid, startTicks: vmm.pid, hostBootId: BOOT_ID }],
      stateDir,
      disks: vmm.plan.disks.map(({ id }) => id),
      diskSerials: this.description.diskSerials,
      saveDir: vmm.plan.saveDir,
      agentSocket: `${runDir}/agent.sock`,
      ...(this.vsock && { agentVsockPort: 1024 }),
      monitorSocket: `${runDir}/monitor.sock`,
      consoleSocket: `${runDir}/console.sock`,
    };
  }
  /** Finds the process of the handle, alive or dead. */
  #same({ driver, processes: [ref] }: VmHandle): FakeVmm | undefined {
    const same = driver === this.name && ref.startTicks === ref.pid && ref.hostBootId === BOOT_ID;
    return same ? this.vmms.find(ref.pid) : undefined;
  }
  #find(handle: VmHandle): FakeVmm | undefined {
    const vmm = this.#same(handle);
    return vmm?.phase === "gone" ? undefined : vmm;
  }
  #get(handle: VmHandle): FakeVmm {
    const vmm = this.#find(handle);
    if (vmm === undefined) throw new HearthError("vm.gone", "The VM is not running any more.");
    return vmm;
  }
}

/** Sets the named limits; others stay, and those of missing devices are ignored. */
function replaced<Limit>(
  before: Readonly<Record<string, Limit>>,
  after: Readonly<Record<string, Limit>> = {},
): Readonly<Record<string, Limit>> {
  const known = Object.entries(after).filter(([id]) => id in before);
  return { ...before, ...Object.fromEntries(known) };
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
