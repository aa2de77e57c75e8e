import { HearthError, invariant } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import type { SnapshotId } from "#model/ids.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

/**
 * The states of a VM and their transitions. A state carries exactly the data that exists in it.
 *
 *  created ─┐
 *  stopped ─┼─start─▶ starting ─booted─▶ running ⇄ paused
 *  failed  ─┘            │                  │        │
 *     ▲                  │                  ├─ stop ─┴─▶ stopping ─exited─▶ stopped
 *     └──── it broke ────┴──────────────────┘
 *
 *  running, paused ─suspend─▶ stopping ─exited─▶ suspended ─start─▶ starting. The memory is on disk while suspended.
 *
 *  A guest may also power itself off: running ─exited─▶ stopped.
 */
export type VmState =
  | { readonly phase: "created" }
  /** The state before the start, which it returns to if the start is undone; undefined in rows older than the field. */
  | { readonly phase: "starting"; readonly sinceMs: number; readonly back?: VmState | undefined }
  | { readonly phase: "running"; readonly handle: VmHandle; readonly startedAtMs: number }
  | {
      readonly phase: "paused";
      readonly handle: VmHandle;
      readonly startedAtMs: number;
      /** Set when the pause was not requested. */
      readonly cause?: PauseCause | undefined;
    }
  | { readonly phase: "stopping"; readonly handle: VmHandle; readonly startedAtMs: number }
  | { readonly phase: "stopped"; readonly exit: VmExit }
  | { readonly phase: "suspended"; readonly snapshot: SnapshotId; readonly sinceMs: number }
  | {
      readonly phase: "failed";
      readonly code: ErrorCode;
      readonly message: string;
      readonly atMs: number;
      /** True if no start has succeeded yet, so that the disk contains nothing to keep. */
      readonly neverRan?: true | undefined;
    };

export type VmPhase = VmState["phase"];

/** Causes of a pause that was not requested, in sentences. */
export const PAUSE_CAUSES = {
  "disk-full":
    "The disk of the host is full, so the guest cannot write. Free some space, then resume the VM.",
  "disk-failed": "The host cannot read or write the disk of the VM, and the guest waits for it.",
  vmm: "The VMM has stopped the vCPUs by itself.",
} as const;

export type PauseCause = keyof typeof PAUSE_CAUSES;

export const PAUSE_CAUSE_NAMES = ["disk-full", "disk-failed", "vmm"] as const satisfies readonly PauseCause[];

export const VM_PHASES = [
  "created",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "suspended",
  "failed",
] as const;

const NEXT = {
  created: ["starting", "failed"],
  // The state before the start, when the start is undone after a crash of hearthd.
  starting: ["running", "failed", "stopped", "suspended", "created"],
  running: ["paused", "stopping", "stopped", "failed"],
  paused: ["running", "stopping", "stopped", "failed"],
  // The state before the stop, when the stop fails.
  stopping: ["running", "paused", "stopped", "suspended", "failed"],
  stopped: ["starting", "failed"],
  suspended: ["starting", "stopped", "failed"],
  // The state before, when the rest of an earlier start or stop is undone or finished later.
  failed: ["starting", "failed", "created", "stopped", "suspended"],
} as const satisfies Record<VmPhase, readonly VmPhase[]>;

/** Returns the new state. Throws `internal.bug` if the table has no such transition. */
export function moveTo(from: VmState, to: VmState): VmState {
  const allowed: readonly VmPhase[] = NEXT[from.phase];
  invariant(allowed.includes(to.phase), `a VM never goes from ${from.phase} to ${to.phase}`);
  return to;
}

const ALLOWED = {
  start: ["created", "stopped", "suspended", "failed"],
  stop: ["running", "paused"],
  restart: ["created", "running", "paused", "stopped", "failed"],
  /** Killing a VM that does not run succeeds: there is nothing to end. */
  kill: ["created", "starting", "running", "paused", "stopping", "stopped", "suspended", "failed"],
  pause: ["running"],
  resume: ["paused", "suspended"],
  suspend: ["running", "paused"],
  fork: ["running", "paused"],
  // A suspended VM is resumed first.
  exec: ["running", "suspended"],
  copy: ["running", "suspended"],
  set: ["created", "stopped", "failed"],
  /** The changes of `set` that also work while the guest runs. */
  adjust: ["created", "running", "stopped", "failed"],
  /** Labels are only in the row. */
  label: VM_PHASES,
  snapshot: ["created", "running", "paused", "stopped", "failed"],
  /** Restores the VM to a snapshot. */
  restore: ["created", "running", "paused", "stopped", "suspended", "failed"],
  remove: ["created", "stopped", "suspended", "failed"],
} as const satisfies Record<string, readonly VmPhase[]>;

export type VmAction = keyof typeof ALLOWED;

export const VM_ACTIONS = Object.keys(ALLOWED) as VmAction[];

const FIX: Partial<Record<VmPhase, string>> = {
  created: "Start it first: `hearth start NAME`.",
  stopped: "Start it first: `hearth start NAME`.",
  failed: "Look at `hearth logs NAME`, then start it again.",
  running: "Stop it first: `hearth stop NAME`.",
  paused: "Resume it first: `hearth resume NAME`.",
  suspended: "Resume it first: `hearth resume NAME`.",
  starting: "Wait until it is running; `hearth ls` shows its state.",
  stopping: "Wait until it has stopped; `hearth ls` shows its state.",
};

/** The verbs of actions whose name is no verb of a sentence. */
const WORDS: Partial<Record<VmAction, string>> = {
  exec: "run a command in",
  copy: "copy files to or from",
  set: "change",
  adjust: "change",
  snapshot: "create a snapshot of",
};

/** Returns why `action` is not possible now, or undefined when it is. API, CLI and dashboard use this. */
export function denial(action: VmAction, phase: VmPhase, name: string): string | undefined {
  const allowed: readonly VmPhase[] = ALLOWED[action];
  if (allowed.includes(phase)) return undefined;
  const is = phase === "created" ? "it has never been started" : `it is ${phase}`;
  const must = `${allowed.slice(0, -1).join(", ")}${allowed.length > 1 ? " or " : ""}${allowed.at(-1)}`;
  return `Cannot ${WORDS[action] ?? action} ${name}: ${is}, and must be ${must}.`;
}

/** @throws HearthError `vm.wrong_phase` with the fix as a hint */
export function assertCan(action: VmAction, phase: VmPhase, name: string): void {
  const reason = denial(action, phase, name);
  if (reason === undefined) return;
  throw new HearthError("vm.wrong_phase", reason, { hint: FIX[phase]?.replace("NAME", name) });
}

/** Tells whether no start of the VM has succeeded yet, so that its disk contains nothing to keep. */
export function neverRan(state: VmState): boolean {
  return state.phase === "created" || (state.phase === "failed" && state.neverRan === true);
}

/** Returns the handle of the VMM, in the phases that have one. */
export function handleOf(state: VmState): VmHandle | undefined {
  return "handle" in state ? state.handle : undefined;
}
