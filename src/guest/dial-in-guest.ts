import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AgentCalls } from "#guest/agent-client.ts";
import type { DialRequestSchema } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { feedChunks, streamAnswers } from "#guest/guest-call.ts";

export type DialTarget =
  | { readonly network: "tcp"; readonly host: string; readonly port: number }
  | { readonly network: "unix"; readonly path: string };

/**
 * Opens a connection inside the guest. The first chunk is empty, and says that it is open. It ends when both sides have
 * ended, or with `signal`.
 */
export async function* dialInGuest(
  calls: AgentCalls,
  target: DialTarget,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const answers = streamAnswers(calls, signal, (callSignal) =>
    calls.rpc.dial(dialRequests(target, source, callSignal), { signal: callSignal }),
  );
  for await (const { data } of answers) yield data;
}

async function* dialRequests(
  target: DialTarget,
  source: AsyncIterable<Uint8Array>,
  done: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof DialRequestSchema>> {
  yield { request: { case: "target", value: { network: target.network, address: dialAddress(target) } } };
  for await (const data of feedChunks(source, done)) yield { request: { case: "data", value: data } };
  yield { request: { case: "closed", value: true } };
}

function dialAddress(target: DialTarget): string {
  if (target.network === "unix") return target.path;
  return target.host.includes(":") ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`;
}
