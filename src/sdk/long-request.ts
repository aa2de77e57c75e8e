import type { OnProgress } from "#base/progress.ts";
import type { RequestMore, Transport } from "#sdk/transport.ts";

/** Options of requests that take a while. */
export type LongOptions = {
  readonly onProgress?: OnProgress | undefined;
  /** Stops waiting. hearthd then cancels the request and undoes its steps, or finishes it. */
  readonly signal?: AbortSignal | undefined;
};

/** Options of requests that can continue without their client. */
export type DetachOptions = {
  /** Resolves at once with the operation. `hearth.operations` waits for it and returns its result. */
  readonly detach: true;
  readonly signal?: AbortSignal | undefined;
};

/** Sends a request, and reports its progress if `onProgress` is given. */
export async function withProgress<Answer>(
  transport: Transport,
  method: string,
  path: string,
  more: RequestMore,
  { onProgress, signal }: LongOptions = {},
): Promise<Answer> {
  if (onProgress === undefined) return transport.json<Answer>(method, path, more, signal);
  const { followOperation } = await import("#sdk/follow-operation.ts");
  await using operation = await followOperation(transport, onProgress, signal);
  return await transport.json<Answer>(method, path, { ...more, operation: operation.id }, signal);
}
