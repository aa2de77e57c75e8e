/** The event stream, `GET /v1/events`: server-sent events whose data is one `ApiEvent` as JSON. */
import type { ErrorBody } from "#base/error.ts";
import type { Progress } from "#base/progress.ts";
import type { Labels } from "#model/labels.ts";
import type { ExitReason } from "#model/vm-handle.ts";
import type { PauseCause, VmPhase } from "#model/vm-state.ts";

export type ApiEvent =
  | {
      readonly type: "vm.phase";
      readonly atMs: number;
      readonly id: string;
      readonly name: string;
      readonly phase: VmPhase;
      /** Why it is paused, where nobody has asked for it. */
      readonly cause?: PauseCause | undefined;
      /** Why its VMM ended, where it has. */
      readonly reason?: ExitReason | undefined;
    }
  | {
      /** `vm.labels`: the labels have changed to these. */
      readonly type: "vm.created" | "vm.labels";
      readonly atMs: number;
      readonly id: string;
      readonly name: string;
      readonly labels: Labels;
    }
  | { readonly type: "vm.removed"; readonly atMs: number; readonly id: string; readonly name: string }
  | {
      readonly type: "vm.error";
      readonly atMs: number;
      readonly id: string;
      readonly name: string;
      readonly action: string;
      readonly error: ErrorBody;
    }
  | {
      readonly type: "vm.responsive";
      readonly atMs: number;
      readonly id: string;
      readonly name: string;
      readonly responsive: boolean;
    }
  /** hearthd ends; the last event of the stream. */
  | { readonly type: "daemon.stopping"; readonly atMs: number }
  /** Only for those who ask for the operation: `?operation=op-…`. */
  | {
      readonly type: "progress";
      readonly atMs: number;
      readonly operation: string;
      readonly progress: Progress;
    };

/** The request header that names an operation; its progress, errors and log lines carry it. BG-091. */
export const OPERATION_HEADER = "hearth-operation";
/** `hearth-detach: true` has a request go on without its client: the answer is 202, with its operation. */
export const DETACH_HEADER = "hearth-detach";
/** The answer's header with hearthd's version, so that a client of another version says so. */
export const VERSION_HEADER = "hearth-version";
