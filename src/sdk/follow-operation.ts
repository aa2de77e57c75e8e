import type { OnProgress } from "#base/progress.ts";
import { operationIdFrom } from "#model/ids.ts";
import { readEvents } from "#sdk/events.ts";
import type { Transport } from "#sdk/transport.ts";

export type FollowedOperation = AsyncDisposable & { readonly id: string };

/**
 * Chooses an operation id and subscribes to its progress. The request that uses the id is sent later, so no progress is
 * missed.
 */
export async function followOperation(
  transport: Transport,
  onProgress: OnProgress,
  signal?: AbortSignal,
): Promise<FollowedOperation> {
  const id = operationIdFrom(process.getBuiltinModule("node:crypto").randomBytes(6));
  const progress = await followProgress(transport, id, onProgress, signal);
  return { id, [Symbol.asyncDispose]: () => progress[Symbol.asyncDispose]() };
}

/** Subscribes to the progress of an operation until it is disposed of. */
export async function followProgress(
  transport: Transport,
  id: string,
  onProgress: OnProgress,
  signal?: AbortSignal,
): Promise<AsyncDisposable> {
  const events = await transport.open("GET", "/v1/events", { query: { operation: id } }, signal);
  const reporting = report(events, onProgress);
  return {
    async [Symbol.asyncDispose]() {
      events.destroy();
      await reporting;
    },
  };
}

async function report(events: Parameters<typeof readEvents>[0], onProgress: OnProgress): Promise<void> {
  try {
    for await (const event of readEvents(events)) if (event.type === "progress") onProgress(event.progress);
  } catch {
    // Disposing cuts the stream. Progress that is lost before then does no harm: the operation's result comes by its
    // answer.
  }
}
