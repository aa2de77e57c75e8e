import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { HearthError } from "#base/error.ts";

/** Returns the body of an answer as a stream that ends with a HearthError if the answer is cut off. */
export function answerStream(answer: IncomingMessage, signal?: AbortSignal): Readable {
  const stream = Readable.from(chunksOf(answer, signal), { objectMode: false });
  // Destroys the answer even if reading has never begun.
  return stream.once("close", () => answer.destroy());
}

async function* chunksOf(answer: IncomingMessage, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const chunks = answer[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    const next = await chunks.next().catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw new HearthError("daemon.unreachable", "hearthd ended its response too early", {
        hint: "See `hearth daemon logs`.",
        cause,
      });
    });
    if (next.done === true) return;
    yield next.value;
  }
}
