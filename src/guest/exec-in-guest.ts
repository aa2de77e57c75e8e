import type { MessageInitShape } from "@bufbuild/protobuf";
import { HearthError } from "#base/error.ts";
import type { AgentCalls } from "#guest/agent-client.ts";
import type { ExecRequestSchema, ExecResponse } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { feedChunks, streamAnswers } from "#guest/guest-call.ts";
import type { ExecSpec } from "#model/exec-spec.ts";

export type ExecIo = {
  /** The id for `signalExec` and `resizeExec`, unique among the running commands of this guest. */
  readonly id: string;
  /**
   * The command's stdin. It is read only as fast as the command reads, and its end is the end of stdin. Ignored unless
   * `spec.stdin`.
   */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
};

export type ExecEvent =
  | { readonly type: "started"; readonly pid: number }
  /** Output; with a terminal, that of stderr too. */
  | { readonly type: "stdout"; readonly bytes: Uint8Array }
  | { readonly type: "stderr"; readonly bytes: Uint8Array }
  /** The last event. `code` is 128+n if signal n ended the command, 124 if it exceeded its time limit. */
  | {
      readonly type: "exited";
      readonly code: number;
      readonly signal?: number | undefined;
      readonly timedOut: boolean;
    };

type Request = MessageInitShape<typeof ExecRequestSchema>;

/**
 * Implements `AgentClient.exec`: the wire between hearthd and the guest, one bidirectional stream for each command.
 *
 * 1. The first `next()` opens the stream and sends `start`: argv, environment, user, time limit, terminal size.
 * 2. The agent answers `started` with the pid, or fails the stream with `exec.not_found` and the like.
 * 3. stdin follows in chunks of at most 256 KiB, and `stdinClosed` at its end. HTTP/2's window holds it back while the
 *    command does not read.
 * 4. `stdout` and `stderr` arrive in order, and wait in the guest while the caller does not ask for the next event.
 * 5. Signals and terminal sizes are unary calls with the command's id, so they never wait behind stdin.
 * 6. `exited` is the last event. A stream that ends without it is `agent.failed`.
 * 7. Leaving the loop or aborting `signal` resets the stream, and the agent kills the command unless it is detached.
 */
export async function* execInGuest(
  calls: AgentCalls,
  spec: ExecSpec,
  io: ExecIo,
  signal: AbortSignal,
): AsyncGenerator<ExecEvent, void, undefined> {
  const exited = new AbortController();
  try {
    const answers = streamAnswers(calls, signal, (callSignal) =>
      calls.rpc.exec(requests(spec, io, AbortSignal.any([callSignal, exited.signal])), {
        signal: callSignal,
      }),
    );
    for await (const answer of answers) {
      const event = execEvent(answer);
      if (event === undefined) continue;
      yield event;
      if (event.type === "exited") return;
    }
  } finally {
    exited.abort();
  }
  throw new HearthError("agent.failed", "The guest agent did not send the exit code of the command.");
}

async function* requests(spec: ExecSpec, io: ExecIo, done: AbortSignal): AsyncGenerator<Request> {
  yield { request: { case: "start", value: execStart(spec, io.id) } };
  if (!spec.stdin) return;
  if (io.stdin !== undefined) {
    for await (const bytes of feedChunks(io.stdin, done)) yield { request: { case: "stdin", value: bytes } };
  }
  yield { request: { case: "stdinClosed", value: true } };
}

function execStart(spec: ExecSpec, id: string) {
  const encoder = new TextEncoder();
  return {
    id,
    argv: spec.argv.map((word) => encoder.encode(word)),
    env: { ...spec.env },
    user: spec.user ?? "",
    workdir: spec.workdir ?? "",
    stdin: spec.stdin,
    detach: spec.detach,
    timeoutMs: BigInt(Math.round(spec.timeoutMs ?? 0)),
    ...(spec.tty === undefined ? {} : { tty: { ...spec.tty } }),
  };
}

/** Converts an answer; undefined for one that only a newer agent sends. */
function execEvent({ response }: ExecResponse): ExecEvent | undefined {
  switch (response.case) {
    case "started":
      return { type: "started", pid: response.value.pid };
    case "stdout":
      return { type: "stdout", bytes: response.value };
    case "stderr":
      return { type: "stderr", bytes: response.value };
    case "exited": {
      const { code, signal, timedOut } = response.value;
      // The guest is not trusted: an exit code is reduced to a byte.
      const exitCode = timedOut ? 124 : code & 0xff;
      return { type: "exited", code: exitCode, timedOut, ...(signal === 0 ? {} : { signal }) };
    }
    default:
      return undefined;
  }
}
