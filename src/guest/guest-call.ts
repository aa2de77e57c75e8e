/** What every streaming call to an agent needs: chunks of a bounded size, and an end to both directions. */
import type { AgentCalls } from "#guest/agent-client.ts";
import { agentError } from "#guest/agent-error.ts";

/** Large enough that a message's fixed cost is small, small enough that calls share the stream fairly. */
const CHUNK_MAX_BYTES = 256 * 1024;

/**
 * The answers of one call. However the reader leaves (end, error, an early `break`), the stream is reset if
 * it is still open, which is how the guest learns that nobody listens any more.
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
 * `source` in chunks that an agent takes, until `done` is aborted: a command that has exited needs no more
 * stdin, and the source may never say another word. What the source throws is what the call fails with.
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
      // A promise for each chunk: in a race against one that lives as long as the call, that one would keep
      // every chunk that ever won. L5.
      const next = await new Promise<IteratorResult<Uint8Array> | undefined>((resolve, reject) => {
        stopWaiting = () => resolve(undefined);
        if (done.aborted) return resolve(undefined);
        iterator.next().then(resolve, reject);
      });
      if (next === undefined || next.done === true) return;
      for (let at = 0; at < next.value.length; at += CHUNK_MAX_BYTES) {
        // Bytes of a SharedArrayBuffer never come here; protobuf's types cannot know that.
        yield next.value.subarray(at, at + CHUNK_MAX_BYTES) as Uint8Array<ArrayBuffer>;
      }
    }
  } finally {
    done.removeEventListener("abort", onDone);
    // Not awaited: a generator that waits for its next byte answers only after it.
    void Promise.resolve(iterator.return?.()).catch(() => undefined);
  }
}
