import { HearthError, invariant } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import type { SnapshotId } from "#model/ids.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

/**
 *  created ─┐
 *  stopped ─┼─start─▶ starting ─booted─▶ running ⇄ paused
 *  failed  ─┘            │                  │        │
 *     ▲                  │                  ├─ stop ─┴─▶ stopping ─exited─▶ stopped
 *     └──── it broke ────┴──────────────────┘
 *
 *  running, paused ─suspend─▶ stopping ─exited─▶ suspended ─start─▶ starting: its memory is on the disk meanwhile.
 *
 *  A guest may also power itself off: running ─exited─▶ stopped. A state carries exactly what exists in it.
 */
export type VmState =
  | { readonly phase: "created" }
  /** `back`: where it is again when the start is taken back; undefined in rows of before there was such a field. */
  | { readonly phase: "starting"; readonly sinceMs: number; readonly back?: VmState | undefined }
  | { readonly phase: "running"; readonly handle: VmHandle; readonly startedAtMs: number }
  | {
      readonly phase: "paused";
      readonly handle: VmHandle;
      readonly startedAtMs: number;
      /** Why, where nobody has asked for it. */
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
      /** No start of it has succeeded yet, so that there is nothing on its disk to keep. */
      readonly neverRan?: true | undefined;
    };

export type VmPhase = VmState["phase"];

/** Why a VM is paused though nobody has asked for it, in sentences. */
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
  // Back to where it came from when a start is taken back after a crash of hearthd.
  starting: ["running", "failed", "stopped", "suspended", "created"],
  running: ["paused", "stopping", "stopped", "failed"],
  paused: ["running", "stopping", "stopped", "failed"],
  // Back to where it was when a stop fails.
  stopping: ["running", "paused", "stopped", "suspended", "failed"],
  stopped: ["starting", "failed"],
  suspended: ["starting", "stopped", "failed"],
  // Where it was, when what an earlier start or stop has left is undone or finished later.
  failed: ["starting", "failed", "created", "stopped", "suspended"],
} as const satisfies Record<VmPhase, readonly VmPhase[]>;

/** The new state, if the table has that arrow; anything else is a bug of ours. */
export function moveTo(from: VmState, to: VmState): VmState {
  const allowed: readonly VmPhase[] = NEXT[from.phase];
  invariant(allowed.includes(to.phase), `a VM never goes from ${from.phase} to ${to.phase}`);
  return to;
}

const ALLOWED = {
  start: ["created", "stopped", "suspended", "failed"],
  stop: ["running", "paused"],
  restart: ["created", "running", "paused", "stopped", "failed"],
  /** Of one that does not run, there is nothing to end, and that is success. */
  kill: ["created", "starting", "running", "paused", "stopping", "stopped", "suspended", "failed"],
  pause: ["running"],
  resume: ["paused", "suspended"],
  suspend: ["running", "paused"],
  fork: ["running", "paused"],
  // One that is suspended wakes.
  exec: ["running", "suspended"],
  copy: ["running", "suspended"],
  set: ["created", "stopped", "failed"],
  /** What `set` can change while the guest runs, too. */
  adjust: ["created", "running", "stopped", "failed"],
  /** Labels are only in the row. */
  label: VM_PHASES,
  snapshot: ["created", "running", "paused", "stopped", "failed"],
  /** To what a snapshot has. */
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

/** The actions that a sentence has other words for. */
const WORDS: Partial<Record<VmAction, string>> = {
  exec: "run a command in",
  copy: "copy files to or from",
  set: "change",
  adjust: "change",
  snapshot: "create a snapshot of",
};

/** Says why `action` is not possible now, or undefined when it is. API, CLI and dashboard all ask here. */
export function denial(action: VmAction, phase: VmPhase, name: string): string | undefined {
  const allowed: readonly VmPhase[] = ALLOWED[action];
  if (allowed.includes(phase)) return undefined;
  const is = phase === "created" ? "it has never been started" : `it is ${phase}`;
  const must = `${allowed.slice(0, -1).join(", ")}${allowed.length > 1 ? " or " : ""}${allowed.at(-1)}`;
  return `Cannot ${WORDS[action] ?? action} ${name}: ${is}, and must be ${must}.`;
}

/** @throws HearthError `vm.wrong_phase` with what to do about it. */
export function assertCan(action: VmAction, phase: VmPhase, name: string): void {
  const reason = denial(action, phase, name);
  if (reason === undefined) return;
  throw new HearthError("vm.wrong_phase", reason, { hint: FIX[phase]?.replace("NAME", name) });
}

/** Whether no start of the VM has succeeded yet, so that there is nothing on its disk to keep. */
export function neverRan(state: VmState): boolean {
  return state.phase === "created" || (state.phase === "failed" && state.neverRan === true);
}

/** The handle of the VMM, in the phases that have one. */
export function handleOf(state: VmState): VmHandle | undefined {
  return "handle" in state ? state.handle : undefined;
}
