import { Readable } from "node:stream";
import { toHearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { bindingsOf, logFailure, requestOf } from "#daemon/http/api.ts";
import type { ApiContext } from "#daemon/http/api.ts";

/**
 * Returns the body of the answer to `context`. An error before the first byte becomes an error answer. Later ones break
 * the stream off, and only hearthd's log has the reason.
 */
export async function startedStream(
  chunks: AsyncIterable<Uint8Array>,
  context: ApiContext,
  daemon: Daemon,
): Promise<ReadableStream<Uint8Array>> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (context.req.method === "HEAD") {
    // The rest is never read.
    await iterator.return?.();
    return emptyStream();
  }
  async function* all(): AsyncIterable<Uint8Array> {
    if (!first.done) yield first.value;
    yield* { [Symbol.asyncIterator]: () => iterator };
  }
  return answerBody(all(), context, daemon);
}

/**
 * Returns the body of the answer to `context`. An error breaks it off, so that the client does not take a part for the
 * whole.
 */
export function answerBody(
  chunks: AsyncIterable<Uint8Array>,
  context: ApiContext,
  daemon: Daemon,
): ReadableStream<Uint8Array> {
  async function* untilBroken(): AsyncIterable<Uint8Array> {
    try {
      yield* chunks;
    } catch (error) {
      // Neither a client that leaves nor the end of hearthd is a failure.
      if (!requestOf(context).signal.aborted) logFailure(daemon, error, context, toHearthError(error).code);
      const { outgoing } = bindingsOf(context);
      if (outgoing === undefined) throw error;
      // The server would print an error of the stream, and send its text as a part of the body.
      outgoing.destroy();
    }
  }
  return Readable.toWeb(Readable.from(untilBroken(), { objectMode: false })) as ReadableStream<Uint8Array>;
}

export function emptyStream(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.close() });
}
