import type { MessageInitShape } from "@bufbuild/protobuf";
import { HearthError } from "#base/error.ts";
import type { AgentCalls } from "#guest/agent-client.ts";
import type { ExecRequestSchema, ExecResponse } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { feedChunks, streamAnswers } from "#guest/guest-call.ts";
import type { ExecSpec } from "#model/exec-spec.ts";

export type ExecIo = {
  /** For `signalExec` and `resizeExec`; unlike that of any other command that runs in this guest. */
  readonly id: string;
  /** Read only as fast as the command takes it. Its end is the end of stdin. Ignored unless `spec.stdin`. */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
};

export type ExecEvent =
  | { readonly type: "started"; readonly pid: number }
  /** With a terminal, everything that the command writes. */
  | { readonly type: "stdout"; readonly bytes: Uint8Array }
  | { readonly type: "stderr"; readonly bytes: Uint8Array }
  /** `code` is 128+n when signal n ended it, 124 when its time was up. */
  | {
      readonly type: "exited";
      readonly code: number;
      readonly signal?: number | undefined;
      readonly timedOut: boolean;
    };

type Request = MessageInitShape<typeof ExecRequestSchema>;

/** `AgentClient.exec`. */
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
  throw new HearthError("agent.failed", "The guest's agent ended the command's stream without an exit code.");
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

/** Undefined for what a newer agent may send. */
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
      // The guest is not trusted: an exit code is a byte, whatever it sends.
      const exitCode = timedOut ? 124 : code & 0xff;
      return { type: "exited", code: exitCode, timedOut, ...(signal === 0 ? {} : { signal }) };
    }
    default:
      return undefined;
  }
}
