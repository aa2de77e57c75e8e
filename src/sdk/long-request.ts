import type { OnProgress } from "#base/progress.ts";
import type { RequestMore, Transport } from "#sdk/transport.ts";

/** For requests that take a while. */
export type LongOptions = {
  readonly onProgress?: OnProgress | undefined;
  /** Gives up waiting. What hearthd has begun, it finishes or takes back. */
  readonly signal?: AbortSignal | undefined;
};

/** For requests that may go on without their client. */
export type DetachOptions = {
  /** Resolves at once, with the operation: `hearth.operations` waits for it, and has its result. */
  readonly detach: true;
  readonly signal?: AbortSignal | undefined;
};

/** A request whose progress is told to those who ask for it. */
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
