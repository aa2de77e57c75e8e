/** The parts of every streaming call to an agent: chunks of bounded size, and cancelling in both directions. */
import type { AgentCalls } from "#guest/agent-client.ts";
import { agentError } from "#guest/agent-error.ts";

/** Large enough to hide the fixed cost of a message, and small enough that concurrent calls share the stream fairly. */
const CHUNK_MAX_BYTES = 256 * 1024;

/**
 * Yields the answers of one call. However the loop ends (end, error, an early `break`), an open stream is reset, so
 * that the guest stops sending.
 */
export async function* streamAnswers<Answer>(
  calls: AgentCalls,
  signal: AbortSignal,
  start: (signal: AbortSignal) => AsyncIterable<Answer>,
): AsyncGenerator<Answer, void, undefined> {
  const leave = new AbortController();
  try {
    for await (const answer of start(AbortSignal.any([signal, leave.signal]))) yield answer;
  } catch (error) {
    throw agentError(error, calls.lost(), signal);
  } finally {
    leave.abort();
  }
}

/**
 * Yields `source` in chunks that an agent accepts, until `done` aborts: a command that has exited needs no more stdin,
 * and the source may never yield again. An error of the source fails the call.
 */
export async function* feedChunks(
  source: AsyncIterable<Uint8Array>,
  done: AbortSignal,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  let stopWaiting: (() => void) | undefined;
  const onDone = (): void => stopWaiting?.();
  done.addEventListener("abort", onDone, { once: true });
  const iterator = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      // A new promise for each chunk. Racing against a promise that lives as long as the call would keep every chunk in
      // memory.
      const next = await new Promise<IteratorResult<Uint8Array> | undefined>((resolve, reject) => {
        stopWaiting = () => resolve(undefined);
        if (done.aborted) return resolve(undefined);
        iterator.next().then(resolve, reject);
      });
      if (next === undefined || next.done === true) return;
      for (let at = 0; at < next.value.length; at += CHUNK_MAX_BYTES) {
        // SharedArrayBuffers never get here, but protobuf's types do not know that.
        yield next.value.subarray(at, at + CHUNK_MAX_BYTES) as Uint8Array<ArrayBuffer>;
      }
    }
  } finally {
    done.removeEventListener("abort", onDone);
    // Not awaited: a generator that waits for its next byte returns only after that byte.
    void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}
