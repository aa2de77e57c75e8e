import type { OnProgress } from "#base/progress.ts";
import { operationIdFrom } from "#model/ids.ts";
import { readEvents } from "#sdk/events.ts";
import type { RequestMore, Transport } from "#sdk/transport.ts";

/** For requests that take a while. */
export type LongOptions = {
  readonly onProgress?: OnProgress | undefined;
  /** Gives up waiting. What hearthd has begun, it finishes or takes back. */
  readonly signal?: AbortSignal | undefined;
};

/** A request whose progress is told: the subscription stands before the work starts, so nothing is missed. */
export async function withProgress<Answer>(
  transport: Transport,
  method: string,
  path: string,
  more: RequestMore,
  { onProgress, signal }: LongOptions = {},
): Promise<Answer> {
  if (onProgress === undefined) return transport.json<Answer>(method, path, more, signal);
  const random = process.getBuiltinModule("node:crypto").randomBytes(6);
  const operation = operationIdFrom(random);
  const events = await transport.open("GET", "/v1/events", { query: { operation } }, signal);
  const told = tell(events, onProgress);
  try {
    return await transport.json<Answer>(method, path, { ...more, operation }, signal);
  } finally {
    events.destroy();
    await told;
  }
}

async function tell(events: Parameters<typeof readEvents>[0], onProgress: OnProgress): Promise<void> {
  try {
    for await (const event of readEvents(events)) if (event.type === "progress") onProgress(event.progress);
  } catch {
    // The stream is cut when the work is done. Progress that is lost before that costs nothing: the answer counts.
  }
}
