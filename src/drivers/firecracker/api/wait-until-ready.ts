import { setTimeout as delay } from "node:timers/promises";
import { abortAfter } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import { apiRequest } from "#drivers/firecracker/api/api-request.ts";
import { type ApiAnswer, type ApiSocket, exchange, refusal } from "#drivers/firecracker/api/exchange.ts";
import {
  type FirecrackerVersion,
  parseFirecrackerVersion,
} from "#drivers/firecracker/api/firecracker-version.ts";
import { fromWire } from "#drivers/firecracker/api/from-wire.ts";

/** Firecracker listens about 5 ms after it was started; on a busy host it takes longer. */
const RETRY_FIRST_MS = 1;
const RETRY_MAX_MS = 50;
const VERSION = apiRequest("GET", "/version");

export type Readiness = {
  readonly socketPath: string;
  /** The uid that must own the socket; undefined: hearthd's uid. */
  readonly socketOwner?: number | undefined;
  readonly deadlineMs: number;
  /** Resolves with the reason when the VMM's process has ended: then there is nothing to wait for. */
  readonly hasEnded: Promise<Error>;
};

/**
 * Asks for the version until there is a good answer; a status 400 is none.
 * @throws the reason of `hasEnded`, at once; HearthError `vmm.unresponsive` after `deadlineMs`, with the last failure
 * as its cause; the reason of `signal`
 */
export async function waitUntilReady(
  { socketPath, socketOwner, deadlineMs, hasEnded }: Readiness,
  signal: AbortSignal,
): Promise<FirecrackerVersion> {
  const abandoned = new AbortController();
  // A rejection is a reason as well.
  hasEnded.then(
    (reason) => abandoned.abort(reason),
    (reason) => abandoned.abort(reason),
  );
  let last: unknown;
  const outer = AbortSignal.any([signal, abandoned.signal]);
  using inTime = abortAfter(deadlineMs, () => notReady(deadlineMs, last), outer);
  const either = inTime.signal;
  try {
    // Lets the handlers above run first when the VMM had already ended.
    await Promise.resolve();
    for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * 1.5, RETRY_MAX_MS)) {
      either.throwIfAborted();
      const answer = await tryToAsk({ socketPath, socketOwner }, deadlineMs, either);
      if (answer instanceof HearthError) last = answer;
      else if (answer.ok) return readVersion(answer.body);
      else last = refusal(VERSION, answer);
      await delay(waitMs, undefined, { signal: either });
    }
  } catch (error) {
    // An aborted timer rejects with its own error.
    either.throwIfAborted();
    throw error;
  }
}

const FOR_GOOD: ReadonlySet<string> = new Set(["host.path_too_long", "path.unmanaged"]);

/** Returns the error when another attempt may succeed. */
async function tryToAsk(
  socket: ApiSocket,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<ApiAnswer | HearthError> {
  try {
    return await exchange(socket, VERSION, deadlineMs, signal);
  } catch (error) {
    if (signal.aborted || !(error instanceof HearthError) || FOR_GOOD.has(error.code)) throw error;
    return error;
  }
}

/** @throws HearthError `vmm.failed` when Firecracker's answer has no version */
export function readVersion(body: unknown): FirecrackerVersion {
  const { firecrackerVersion } = fromWire<{ firecrackerVersion?: unknown }>("GET /version", body);
  return parseFirecrackerVersion(String(firecrackerVersion));
}

function notReady(deadlineMs: number, cause: unknown): HearthError {
  return new HearthError("vmm.unresponsive", `The API of Firecracker was not ready within ${deadlineMs} ms`, {
    cause,
  });
}
