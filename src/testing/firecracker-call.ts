/** A call of the client, by name, with what must come out of it. */
import type { Payload } from "#drivers/firecracker/api/api-request.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";

/** Methods that send one request; `configure` sends many of these. */
export type CallName = Exclude<keyof FirecrackerClient, "socketPath" | "version" | "configure">;
type Arguments<Name extends CallName> =
  Parameters<FirecrackerClient[Name]> extends [...infer Given, AbortSignal] ? Given : never;

export type FirecrackerCall = {
  readonly name: CallName;
  readonly args: readonly unknown[];
  readonly request: string;
  readonly body: Payload | undefined;
};

/** Holds arguments against the method's own types. */
export function call<Name extends CallName>(
  name: Name,
  args: Arguments<Name>,
  request: string,
  body?: Payload,
): FirecrackerCall {
  return { name, args, request, body };
}

/** Makes the call by its name. */
export function make(client: FirecrackerClient, { name, args }: FirecrackerCall): Promise<unknown> {
  const method = client[name] as (...given: unknown[]) => Promise<unknown>;
  return method.call(client, ...args, AbortSignal.timeout(60_000));
}

/** Both buckets, in our words and on the wire. */
export const LIMITER = {
  bandwidth: { size: 1_000_000, oneTimeBurst: 500_000, refillTime: 100 },
  ops: { size: 200, refillTime: 1_000 },
} as const;
export const LIMITER_WIRE = {
  bandwidth: { size: 1_000_000, one_time_burst: 500_000, refill_time: 100 },
  ops: { size: 200, refill_time: 1_000 },
} as const;
