import { Readable } from "node:stream";
import { toHearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { logFailure } from "#daemon/http/api.ts";
import type { ApiContext } from "#daemon/http/api.ts";

/**
 * The body of the answer to `context`. An error before the first byte is an answer of its own; later ones break the
 * stream off, and only hearthd's log can say why.
 */
export async function startedStream(
  chunks: AsyncIterable<Uint8Array>,
  context: ApiContext,
  daemon: Daemon,
): Promise<ReadableStream<Uint8Array>> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (context.req.method === "HEAD") {
    // Nobody would read the rest.
    await iterator.return?.();
    return emptyStream();
  }
  async function* all(): AsyncIterable<Uint8Array> {
    try {
      if (!first.done) yield first.value;
      yield* { [Symbol.asyncIterator]: () => iterator };
    } catch (error) {
      // A reader who goes is no failure.
      if (!context.req.raw.signal.aborted) logFailure(daemon, error, context, toHearthError(error).code);
      throw error;
    }
  }
  return webStream(all());
}

/** As the body of an answer. */
export function webStream(chunks: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  return Readable.toWeb(Readable.from(chunks, { objectMode: false })) as ReadableStream<Uint8Array>;
}

export function emptyStream(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.close() });
}
