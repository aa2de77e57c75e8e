/** Copies files into and out of a guest, as tar streams. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AgentCalls } from "#guest/agent-client.ts";
import { agentError } from "#guest/agent-error.ts";
import type { WriteTarRequestSchema } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { feedChunks, streamAnswers } from "#guest/guest-call.ts";

export type TarTarget = {
  /** The directory that the entries are unpacked into. */
  readonly path: string;
  readonly createParents: boolean;
};

export type TarWritten = { readonly entries: number; readonly bytes: number };

/** Implements `AgentClient.readTar`. */
export async function* readTar(
  calls: AgentCalls,
  path: string,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const answers = streamAnswers(calls, signal, (callSignal) =>
    calls.rpc.readTar({ path }, { signal: callSignal }),
  );
  for await (const { data } of answers) {
    if (data.length > 0) yield data;
  }
}

/** Implements `AgentClient.writeTar`. */
export async function writeTar(
  calls: AgentCalls,
  target: TarTarget,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<TarWritten> {
  const answered = new AbortController();
  try {
    const done = AbortSignal.any([signal, answered.signal]);
    const answer = await calls.rpc.writeTar(writeRequests(target, source, done), { signal });
    return { entries: Number(answer.entries), bytes: Number(answer.bytes) };
  } catch (error) {
    throw agentError(error, calls.lost(), signal);
  } finally {
    answered.abort();
  }
}

async function* writeRequests(
  target: TarTarget,
  source: AsyncIterable<Uint8Array>,
  done: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof WriteTarRequestSchema>> {
  yield { request: { case: "start", value: { path: target.path, createParents: target.createParents } } };
  for await (const data of feedChunks(source, done)) yield { request: { case: "data", value: data } };
}
