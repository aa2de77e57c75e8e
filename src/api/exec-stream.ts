/**
 * The WebSocket of `exec` and `run`.
 *
 * The client sends one text message first: an `Exec` (or a `Run`). Then
 *   binary messages carry bytes: one byte for the channel, then the payload. An empty payload on STDIN is its end;
 *   text messages carry everything else, as JSON: `ClientMessage` and `ServerMessage`.
 * stdin has a window: the client has at most STDIN_WINDOW_BYTES under way that were not acknowledged, so a
 * command that does not read its stdin can still be sent signals. Output is held back by the socket itself.
 * The server closes after `exit` or `error`. A client that goes away takes its command with it, unless the
 * exec is detached.
 */
import type { ErrorBody } from "#base/error.ts";
import type { Progress } from "#base/progress.ts";
import type { StartStage } from "#model/start-stage.ts";

export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2 } as const;
export const STDIN_WINDOW_BYTES = 1024 * 1024;

export type ClientMessage =
  | { readonly type: "signal"; readonly signal: string }
  | { readonly type: "resize"; readonly rows: number; readonly cols: number };

export type ServerMessage =
  | { readonly type: "progress"; readonly progress: Progress }
  /** Tells a run the name of its VM when that is created, and again, with how long the start took, when it runs. */
  | {
      readonly type: "vm";
      readonly id: string;
      readonly name: string;
      readonly startStages?: readonly StartStage[] | undefined;
    }
  | { readonly type: "started"; readonly pid: number }
  /** So many more bytes of stdin have been taken. */
  | { readonly type: "ack"; readonly bytes: number }
  /** `code` is 128+n when signal n ended the command, 124 when its time was up. The last message. */
  | { readonly type: "exit"; readonly code: number; readonly signal?: number; readonly timedOut: boolean }
  /** The last message, when there is no exit to report. */
  | { readonly type: "error"; readonly error: ErrorBody };
