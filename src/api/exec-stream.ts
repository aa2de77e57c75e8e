/**
 * The wire of `exec` and `run` between client and hearthd: one WebSocket for each command. A connection to a port of
 * the guest has the same: its request is a `Dial`, what is sent is stdin, and what comes is stdout.
 *
 * 1. The client opens it and sends an `Exec` (or a `Run`) as the first text message.
 * 2. Binary messages carry bytes: one byte for the channel, then the payload. An empty payload on stdin is its end.
 * 3. Text messages carry everything else as JSON: `ClientMessage` and `ServerMessage`.
 * 4. stdin has a window: at most STDIN_WINDOW_BYTES may be unacknowledged, so that signals still pass when a command
 *    does not read.
 * 5. Output has none: a client that stops reading the socket blocks the command.
 * 6. The server closes after `exit` or `error`.
 * 7. If the client disconnects, its command is killed, unless the exec is detached.
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
  /** Sent for a run when its VM is created, and again when it runs, with the stages of its start. */
  | {
      readonly type: "vm";
      readonly id: string;
      readonly name: string;
      readonly startStages?: readonly StartStage[] | undefined;
    }
  | { readonly type: "started"; readonly pid: number }
  /** Acknowledges this many more bytes of stdin. */
  | { readonly type: "ack"; readonly bytes: number }
  /** The last message. `code` is 128+n if signal n ended the command, 124 if it exceeded its time limit. */
  | { readonly type: "exit"; readonly code: number; readonly signal?: number; readonly timedOut: boolean }
  /** The last message, if there is no exit to report. */
  | { readonly type: "error"; readonly error: ErrorBody };
