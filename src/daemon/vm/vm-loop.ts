/**
 * One loop owns one VM: its state, and the one action that may be under way. The decision what an event
 * means is a pure function; everybody else sends events and reads snapshots.
 */
import { HearthError, invariant } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import type { SnapshotId } from "#model/ids.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import { handleOf, moveTo, neverRan } from "#model/vm-state.ts";
import type { PauseCause, VmState } from "#model/vm-state.ts";

export type VmEvent =
  | { readonly type: "start-asked"; readonly atMs: number }
  | { readonly type: "agent-ready"; readonly handle: VmHandle; readonly atMs: number }
  | {
      readonly type: "start-failed";
      readonly code: ErrorCode;
      readonly message: string;
      readonly atMs: number;
      readonly neverRan?: true | undefined;
    }
  | { readonly type: "start-cancelled"; readonly back: VmState }
  /** A VM without a VMM is not as it should be, and says why. */
  | { readonly type: "broke"; readonly code: ErrorCode; readonly message: string; readonly atMs: number }
  /** `cause`: why, where nobody has asked for it. */
  | { readonly type: "paused"; readonly cause?: PauseCause | undefined }
  /** `guestWarnings`: the guest was given another identity on the way. */
  | { readonly type: "resumed"; readonly guestWarnings?: readonly string[] | undefined }
  | { readonly type: "stop-asked" }
  /** The VMM runs on. */
  | { readonly type: "stop-failed"; readonly back: "running" | "paused" }
  /** The VMM is gone; its guest's memory is in that snapshot. */
  | { readonly type: "suspended"; readonly snapshot: SnapshotId; readonly atMs: number }
  /** The memory of a VM that sleeps is given up. */
  | { readonly type: "forgotten"; readonly exit: VmExit }
  /** `failure`: why we ended it, when the VM did not deserve better. */
  | { readonly type: "vmm-exited"; readonly exit: VmExit; readonly failure?: VmFailure | undefined };

export type VmFailure = { readonly code: ErrorCode; readonly message: string };

/** Pure: the whole lifecycle policy, testable without a VM, a clock or a socket. */
export function decide(state: VmState, event: VmEvent): VmState {
  switch (event.type) {
    case "start-asked":
      return { phase: "starting", sinceMs: event.atMs, back: state };
    case "agent-ready":
      return { phase: "running", handle: event.handle, startedAtMs: event.atMs };
    case "start-failed":
      return failed(event, event.neverRan === true);
    case "start-cancelled":
      // A VM that had failed before has not become better by a start that was taken back.
      return state.phase === "starting" ? event.back : state;
    case "broke":
      if (handleOf(state) !== undefined) return state;
      return failed(event, neverRan(state));
    case "paused":
      return state.phase === "running" ? paused(state, event.cause) : state;
    case "resumed":
      return state.phase === "paused" ? resumed(state, event.guestWarnings) : state;
    case "stop-asked":
      return state.phase === "running" || state.phase === "paused" ? { ...state, phase: "stopping" } : state;
    case "stop-failed":
      return state.phase === "stopping" ? { ...state, phase: event.back } : state;
    case "suspended":
      return state.phase === "stopping"
        ? { phase: "suspended", snapshot: event.snapshot, sinceMs: event.atMs }
        : state;
    case "forgotten":
      return state.phase === "suspended" ? { phase: "stopped", exit: event.exit } : state;
    case "vmm-exited":
      return afterExit(state, event.exit, event.failure);
  }
}

function failed(why: VmFailure & { readonly atMs: number }, hasNeverRun: boolean): VmState {
  const { code, message, atMs } = why;
  return { phase: "failed", code, message, atMs, ...(hasNeverRun && { neverRan: true }) };
}

function paused({ handle, startedAtMs }: VmState & { phase: "running" }, cause?: PauseCause): VmState {
  return { phase: "paused", handle, startedAtMs, ...(cause !== undefined && { cause }) };
}

function resumed(
  { handle, startedAtMs }: VmState & { phase: "paused" },
  guestWarnings: readonly string[] = handle.guestWarnings ?? [],
): VmState {
  return { phase: "running", handle: { ...handle, guestWarnings }, startedAtMs };
}

function afterExit(state: VmState, exit: VmExit, failure: VmFailure | undefined): VmState {
  // While it starts, the start flow sees the end itself, and may boot again.
  if (handleOf(state) === undefined) return state;
  if (failure !== undefined) return { phase: "failed", ...failure, atMs: exit.atMs };
  if (state.phase === "stopping" || exit.reason !== "died") return { phase: "stopped", exit };
  const how = exit.signal ?? (exit.code === undefined ? undefined : `exit code ${exit.code}`);
  const message = `The VMM ended unexpectedly${how === undefined ? "" : ` (${how})`}.`;
  return { phase: "failed", code: "vm.gone", message, atMs: exit.atMs };
}

const SLEEPY: ReadonlySet<string> = new Set(["suspend", "wake"]);

/** Stores a state, together with what `alongside` writes, and tells everybody. */
type Publish = (state: VmState, before: VmState, alongside: () => void) => void;

type Busy = { readonly action: string; readonly abort: AbortController; readonly done: Promise<void> };

/** The state of one VM, and its one action under way. */
export class VmLoop {
  #state: VmState;
  #busy: Busy | undefined;
  #turn = 0;
  #responsive = true;
  #removed = false;
  readonly #publish: Publish;

  /** `publish` stores the state and tells everybody; it is called before anybody can read the new one. */
  constructor(state: VmState, publish: Publish) {
    this.#state = state;
    this.#publish = publish;
  }

  get state(): VmState {
    return this.#state;
  }

  /** Whether an action is under way. */
  get busy(): boolean {
    return this.#busy !== undefined;
  }

  /** How many actions have begun so far. */
  get turn(): number {
    return this.#turn;
  }

  /** The action under way. */
  get action(): string | undefined {
    return this.#busy?.action;
  }

  /** Resolves when the action that is under way now has ended. */
  get done(): Promise<void> {
    return this.#busy?.done ?? Promise.resolve();
  }

  /** Whether it is suspended, or about to be, or waking: who wants it to run has to wait. */
  get sleepy(): boolean {
    return this.#state.phase === "suspended" || (this.#busy !== undefined && SLEEPY.has(this.#busy.action));
  }

  /** False while the VMM does not answer. */
  get responsive(): boolean {
    return this.#responsive;
  }

  setResponsive(responsive: boolean): void {
    this.#responsive = responsive;
  }

  /** `alongside` writes to the store in the same transaction as the new state. */
  send(event: VmEvent, alongside: () => void = () => {}): void {
    if (this.#removed) return; // The end of a VMM may be heard of after its VM is gone.
    const before = this.#state;
    const next = decide(before, event);
    if (next === before) return;
    this.#publish(moveTo(before, next), before, alongside);
    this.#state = next;
  }

  /** Takes over the state that recovery has stored. */
  reload(state: VmState): void {
    this.#state = state;
  }

  /**
   * Runs one action at a time. `signal` of the action is the caller's, or aborts when a stronger action
   * (kill, a forced removal) takes over.
   * @param takeOver why every action that is under way or waits for its turn ends first, having undone what it did
   * @throws HearthError `vm.busy` while another action is under way and this one does not take over
   */
  async exclusive<Result>(
    action: string,
    name: string,
    work: (signal: AbortSignal) => Promise<Result>,
    signal: AbortSignal,
    takeOver?: string,
  ): Promise<Result> {
    // Nothing is awaited between the last look and the lock, so that nobody comes in between.
    while (takeOver !== undefined && this.#busy !== undefined) {
      this.#busy.abort.abort(new HearthError("operation.taken_over", takeOver));
      await this.#busy.done;
    }
    if (this.#removed) throw new HearthError("vm.not_found", `${name} was removed.`);
    this.assertFree(name);
    this.#turn += 1;
    const abort = new AbortController();
    const { promise: done, resolve } = Promise.withResolvers<void>();
    this.#busy = { action, abort, done };
    try {
      return await work(AbortSignal.any([signal, abort.signal]));
    } finally {
      this.#busy = undefined;
      resolve();
    }
  }

  /** @throws HearthError `vm.busy` while an action is under way */
  assertFree(name: string): void {
    if (this.#busy === undefined) return;
    throw new HearthError("vm.busy", `${name} is busy: ${this.#busy.action} is under way.`, {
      hint: "Wait until it is done: `hearth ls` shows it.",
    });
  }

  /** Resolves when no action is under way. */
  async idle(): Promise<void> {
    while (this.#busy !== undefined) await this.#busy.done;
  }

  /** The VM's row is gone; nothing may happen to it any more. */
  remove(): void {
    invariant(!this.#removed, "a VM is removed once");
    this.#removed = true;
  }
}
