/** The VMMs of a fake host, with their guests. They outlive the fake driver that has started them. */
import { plannedLimits } from "#drivers/device-limits.ts";
import type { BootPlan, DeviceLimits, VmmWatcher } from "#drivers/vm-driver.ts";
import type { VmExit } from "#model/vm-handle.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import type { Kept } from "#testing/fake-snapshotter.ts";
import type { GuestCommand } from "#testing/guest-command.ts";

/** Beyond Linux' largest pid, so that no real process gets a signal. */
const FIRST_PID = 5_000_000;

export type FakeVmm = {
  readonly pid: number;
  readonly plan: BootPlan;
  phase: "running" | "paused" | "gone";
  exit: VmExit | undefined;
  watchers: Set<VmmWatcher>;
  limits: Required<DeviceLimits>;
  memoryBytes: number;
  /** The guest memory: how far it has counted. */
  count: number;
  readonly guest: FakeGuestState;
  /** The commands that were requested from its guest, in order. */
  readonly commands: GuestCommand[];
  /** The tar streams that its guest returns, by path: valid or not. */
  readonly tars: Map<string, Uint8Array>;
  /** The tar streams that its guest got, by their target directory. */
  readonly written: Map<string, Buffer>;
  /** How often its vsock device was reset, which connections do not notice. */
  resets: number;
};

/** Further guest memory, and the requests of this run of its VMM. */
export type FakeGuestState = {
  /** Its guest identity. */
  hostname: string;
  machineId: string;
  /** The guest's own init, if it has one: it starts when the host has configured the guest and left. */
  init: "none" | "starts" | "runs";
  /** True if its processes are frozen. */
  frozen: boolean;
  /** The entropy that was added to its random generator last. */
  entropy: string;
  /** The content that it believes its disk to have, as in `FakeDisk`. */
  written: number;
  readonly calls: string[];
};

/** The processes of a fake host. */
export class FakeVmms {
  readonly #vmms = new Map<number, FakeVmm>();
  readonly #waiting = new Set<() => void>();
  #nextPid = FIRST_PID;

  start(plan: BootPlan, from: Kept = booted(plan), phase: FakeVmm["phase"] = "running"): FakeVmm {
    const { count, memoryBytes, guest } = from;
    const moved = (): void => this.changed();
    let now = phase;
    const watchers = new Set<VmmWatcher>();
    const vmm: FakeVmm = {
      pid: this.#nextPid++,
      plan,
      get phase() {
        return now;
      },
      set phase(next) {
        now = next;
        if (next !== "gone") for (const watcher of watchers) watcher.status?.(next);
        moved();
      },
      exit: undefined,
      watchers,
      limits: plannedLimits(plan),
      memoryBytes,
      count,
      guest: { ...guest, calls: [] },
      commands: [],
      tars: new Map(),
      written: new Map(),
      resets: 0,
    };
    this.#vmms.set(vmm.pid, vmm);
    return vmm;
  }
  find(pid: number): FakeVmm | undefined {
    return this.#vmms.get(pid);
  }
  /** Idempotent: the first end is kept. */
  end(vmm: FakeVmm, exit: VmExit): VmExit {
    if (vmm.exit !== undefined) return vmm.exit;
    vmm.phase = "gone";
    vmm.exit = exit;
    for (const watcher of vmm.watchers) watcher.exited(exit);
    vmm.watchers.clear();
    return exit;
  }
  /** Resolves when any VMM has changed its phase, or something has changed in a guest. */
  async change(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = (): void => reject(signal.reason);
    this.#waiting.add(resolve);
    signal.addEventListener("abort", leave, { once: true });
    try {
      await promise;
    } finally {
      this.#waiting.delete(resolve);
      signal.removeEventListener("abort", leave);
    }
  }
  /** Tells those who wait for a change. */
  changed(): void {
    for (const resolve of this.#waiting) resolve();
  }
  /** All VMMs that have ever run, in order. */
  started(): FakeVmm[] {
    return [...this.#vmms.values()];
  }
  running(): FakeVmm[] {
    return [...this.#vmms.values()].filter((vmm) => vmm.phase !== "gone");
  }
}

function booted(plan: BootPlan): Kept {
  const written = writtenOn({ plan });
  const guest = { hostname: "", machineId: "", init: "none" as const, frozen: false, written, entropy: "" };
  return { count: 0, memoryBytes: plan.memoryBytes, guest };
}
