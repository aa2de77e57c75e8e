/** The state machine of a VM as one pure function. Every new state of a VM comes from here, also during recovery. */
import type { ErrorCode } from "#base/error.ts";
import type { SnapshotId } from "#model/ids.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import { handleOf, neverRan } from "#model/vm-state.ts";
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
  /** Recovery has undone the start, or finished an undo that failed before. */
  | { readonly type: "start-undone"; readonly back: VmState }
  /** A VM without a VMM is damaged. The message says how. */
  | { readonly type: "broke"; readonly code: ErrorCode; readonly message: string; readonly atMs: number }
  /** `cause` is set when the pause was not requested. */
  | { readonly type: "paused"; readonly cause?: PauseCause | undefined }
  /** `guestWarnings` is set when the guest got a new guest identity. */
  | { readonly type: "resumed"; readonly guestWarnings?: readonly string[] | undefined }
  | { readonly type: "stop-asked" }
  /** The VMM still runs. */
  | { readonly type: "stop-failed"; readonly back: "running" | "paused" }
  /** The VMM and its resources are gone. `suspendedTo`: the snapshot with the guest memory. */
  | { readonly type: "stop-finished"; readonly exit: VmExit; readonly suspendedTo?: SnapshotId | undefined }
  /** The memory of a suspended VM was deleted. */
  | { readonly type: "discarded"; readonly exit: VmExit }
  /** `failure` is set when hearthd killed the VMM because of a failure. */
  | { readonly type: "vmm-exited"; readonly exit: VmExit; readonly failure?: VmFailure | undefined };

export type VmFailure = { readonly code: ErrorCode; readonly message: string };

/** Returns the next state, or the same state if the event has no meaning in it. */
export function decide(state: VmState, event: VmEvent): VmState {
  switch (event.type) {
    case "start-asked":
      return { phase: "starting", sinceMs: event.atMs, back: state };
    case "agent-ready":
      return { phase: "running", handle: event.handle, startedAtMs: event.atMs };
    case "start-failed":
      return failed(event, event.neverRan === true);
    case "start-cancelled":
      // A VM that had failed before is still failed after a cancelled start.
      return state.phase === "starting" ? event.back : state;
    case "start-undone":
      return state.phase === "starting" || isUnclean(state) ? event.back : state;
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
    case "stop-finished":
      return state.phase === "stopping" || isUnclean(state) ? stopped(event) : state;
    case "discarded":
      return state.phase === "suspended" ? { phase: "stopped", exit: event.exit } : state;
    case "vmm-exited":
      return afterExit(state, event.exit, event.failure);
  }
}

function isUnclean(state: VmState): boolean {
  return state.phase === "failed" && state.code === "vm.unclean";
}

function stopped({ exit, suspendedTo }: VmEvent & { type: "stop-finished" }): VmState {
  if (suspendedTo === undefined) return { phase: "stopped", exit };
  return { phase: "suspended", snapshot: suspendedTo, sinceMs: exit.atMs };
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
  // During a start, the start flow sees the exit itself, and may boot again.
  if (handleOf(state) === undefined) return state;
  if (failure !== undefined) return { phase: "failed", ...failure, atMs: exit.atMs };
  if (exit.reason === "panicked" && state.phase !== "stopping")
    return { phase: "failed", code: "vm.panicked", message: "The guest kernel panicked.", atMs: exit.atMs };
  if (state.phase === "stopping" || exit.reason !== "died") return { phase: "stopped", exit };
  const how = exit.signal ?? (exit.code === undefined ? undefined : `exit code ${exit.code}`);
  const message = `The VMM ended unexpectedly${how === undefined ? "" : ` (${how})`}.`;
  return { phase: "failed", code: "vm.gone", message, atMs: exit.atMs };
}
