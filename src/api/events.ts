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
      /** The reason for a pause that the user did not ask for. */
      readonly cause?: PauseCause | undefined;
      /** The reason for which its VMM ended. */
      readonly reason?: ExitReason | undefined;
    }
  | {
      /** `vm.labels` means that the labels have changed to these. */
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
  /** hearthd is stopping. This is the last event of the stream. */
  | { readonly type: "daemon.stopping"; readonly atMs: number }
  /** Sent only on a stream of one operation: `?operation=op-…`. */
  | {
      readonly type: "progress";
      readonly atMs: number;
      readonly operation: string;
      readonly progress: Progress;
    };

/** The request header with the id of the operation, which its progress, errors and log lines carry. */
export const OPERATION_HEADER = "hearth-operation";
/**
 * The request header `hearth-detach: true` makes hearthd answer 202 with the operation, which then continues without
 * its client.
 */
export const DETACH_HEADER = "hearth-detach";
/** The answer's header with hearthd's version, so that a client of another version can say so. */
export const VERSION_HEADER = "hearth-version";
