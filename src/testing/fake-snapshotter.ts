/** The part of the fake driver that saves: what it writes are small files, in which it knows its own again. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { HearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import type { BootPlan, SnapshotFiles, SaveHooks, Snapshotter } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { FakeGuestState, FakeVmm } from "#testing/fake-vmms.ts";

/** Functions that the fake driver lends it. */
export type FakeSavingDriver = {
  readonly version: () => string;
  readonly get: (handle: VmHandle) => FakeVmm;
  readonly called: (what: string) => void;
  /** Throws what is to go wrong with this, once. */
  readonly spoil: (what: "save" | "finalize" | "restore") => void;
  /** Something has happened that a hearthd that dies in the middle leaves behind. Does not resolve then. */
  readonly did: (what: string) => Promise<void>;
  /** Waits where a test wants it to wait. */
  readonly wait: (what: "save" | "finalize" | "restore", signal: AbortSignal) => Promise<void>;
  /** A VMM that never runs, and how it ends. */
  readonly load: (plan: BootPlan, from: Kept) => () => void;
  /** A VM that continues where `from` says. */
  readonly start: (
    plan: BootPlan,
    from: Kept,
    onProgress: OnProgress,
    signal: AbortSignal,
  ) => Promise<VmHandle>;
};

/** The memory of a fake VM. */
export type Kept = {
  readonly count: number;
  readonly memoryBytes: number;
  readonly guest: Omit<FakeGuestState, "calls">;
};

/** The format of the files that a fake saves. */
export const FAKE_SNAPSHOT = "hearth fake snapshot";
type Memory = { readonly format: typeof FAKE_SNAPSHOT; readonly kept: Kept };
type State = {
  readonly format: typeof FAKE_SNAPSHOT;
  readonly version: string;
  readonly cpus: number;
  readonly diskCount: number;
  /** False until `finalize` has looked at it. */
  readonly finalized: boolean;
};

/** Keeps the promises of `Snapshotter`. */
export class FakeSnapshotter implements Snapshotter {
  readonly #driver: FakeSavingDriver;

  constructor(driver: FakeSavingDriver) {
    this.#driver = driver;
  }

  async save(handle: VmHandle, saved: SnapshotFiles, hooks: SaveHooks, signal: AbortSignal): Promise<void> {
    const { called, did, get, spoil, version, wait } = this.#driver;
    called("save");
    signal.throwIfAborted();
    await wait("save", signal);
    const vmm = get(handle);
    const before = vmm.phase;
    try {
      await hooks.quiesce();
      signal.throwIfAborted();
      get(handle).phase = "paused";
      await did("save: paused");
      const { count, memoryBytes, plan, guest } = vmm;
      const { calls: _calls, ...inMemory } = guest;
      const memory: Memory = { format: FAKE_SNAPSHOT, kept: { count, memoryBytes, guest: inMemory } };
      writeNew(saved.memory, memory);
      await did("save: memory written");
      spoil("save");
      const shape = { cpus: plan.cpus, diskCount: plan.disks.length };
      const state: State = { format: FAKE_SNAPSHOT, version: version(), ...shape, finalized: false };
      writeNew(saved.state, state);
      await hooks.onPaused();
      signal.throwIfAborted();
      get(handle);
      vmm.resets += 1;
    } catch (error) {
      for (const path of [saved.memory, saved.state]) rmSync(path, { force: true });
      throw error;
    } finally {
      if (vmm.phase !== "gone") vmm.phase = before;
    }
  }

  async finalize(plan: BootPlan, saved: SnapshotFiles, signal: AbortSignal): Promise<void> {
    const { called, did, load, spoil, wait } = this.#driver;
    called("finalize");
    signal.throwIfAborted();
    await wait("finalize", signal);
    spoil("finalize");
    const { memory, state } = this.#read(saved, plan);
    const end = load(plan, memory.kept);
    await did("finalize: loaded");
    const finalized: State = { ...state, finalized: true };
    writeFileSync(saved.state, JSON.stringify(finalized));
    await did("finalize: written");
    end();
  }

  async restore(
    plan: BootPlan,
    saved: SnapshotFiles,
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<VmHandle> {
    const { called, spoil, start, wait } = this.#driver;
    called(`restore ${plan.name}`);
    signal.throwIfAborted();
    await wait("restore", signal);
    spoil("restore");
    const { memory, state } = this.#read(saved, plan);
    if (!state.finalized) throw refused("it is not finalized");
    return start(plan, memory.kept, onProgress, signal);
  }

  #read(saved: SnapshotFiles, { cpus, disks }: BootPlan): { memory: Memory; state: State } {
    const memory = readOwn<Memory>(saved.memory);
    const state = readOwn<State>(saved.state);
    const version = this.#driver.version();
    if (state.version !== version) throw refused(`${state.version} has written it, and this is ${version}`);
    if (state.cpus !== cpus || state.diskCount !== disks.length) throw refused("the VM has another shape");
    return { memory, state };
  }
}

function writeNew(path: string, content: Memory | State): void {
  writeFileSync(path, JSON.stringify(content), { flag: "wx", mode: 0o600 });
}

function readOwn<Content extends Memory | State>(path: string): Content {
  let content: Partial<Content>;
  try {
    content = JSON.parse(readFileSync(path, "utf8")) as Partial<Content>;
  } catch (error) {
    throw refused(`${path}: ${(error as Error).message}`);
  }
  if (content.format !== FAKE_SNAPSHOT) throw refused(`${path} is none of its own`);
  return content as Content;
}

function refused(why: string): HearthError {
  return new HearthError("snapshot.failed", "The fake does not take what was saved", {
    cause: new Error(why),
  });
}
