import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { apiRequest } from "#drivers/firecracker/api/api-request.ts";
import { type ApiAnswer, exchange, refusal } from "#drivers/firecracker/api/exchange.ts";
import {
  type FirecrackerVersion,
  parseFirecrackerVersion,
} from "#drivers/firecracker/api/firecracker-version.ts";
import { fromWire } from "#drivers/firecracker/api/from-wire.ts";

/** Firecracker listens about 5 ms after it was started; longer waits come on a busy host. */
const RETRY_FIRST_MS = 1;
const RETRY_MAX_MS = 50;
const VERSION = apiRequest("GET", "/version");

export type Readiness = {
  readonly socketPath: string;
  readonly deadlineMs: number;
  /** Resolves with the reason when the VMM's process has ended; nobody will ever answer then. */
  readonly hasEnded: Promise<Error>;
};

/**
 * Asks for the version until the answer is a good one; a 400 is not. SV-024, SV-030.
 * @throws the reason of `hasEnded`, at once; HearthError `vmm.unresponsive` after `deadlineMs`, with the
 * last failure as its cause; the reason of `signal`.
 */
export async function waitUntilReady(
  { socketPath, deadlineMs, hasEnded }: Readiness,
  signal: AbortSignal,
): Promise<FirecrackerVersion> {
  const gaveUp = new AbortController();
  // A rejection is a reason as well.
  hasEnded.then(
    (reason) => gaveUp.abort(reason),
    (reason) => gaveUp.abort(reason),
  );
  let last: unknown;
  const timer = setTimeout(() => gaveUp.abort(notReady(deadlineMs, last)), deadlineMs);
  const either = AbortSignal.any([signal, gaveUp.signal]);
  try {
    // A VMM that had already ended is told apart before the first attempt.
    await Promise.resolve();
    for (let waitMs = RETRY_FIRST_MS; ; waitMs = Math.min(waitMs * 1.5, RETRY_MAX_MS)) {
      either.throwIfAborted();
      const answer = await tryToAsk(socketPath, deadlineMs, either);
      if (answer instanceof HearthError) last = answer;
      else if (answer.ok) return readVersion(answer.body);
      else last = refusal(VERSION, answer);
      await delay(waitMs, undefined, { signal: either });
    }
  } catch (error) {
    // A timer that was aborted rejects with an error of its own.
    either.throwIfAborted();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** The error, where another attempt may have more luck. */
async function tryToAsk(
  socketPath: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<ApiAnswer | HearthError> {
  try {
    return await exchange(socketPath, VERSION, deadlineMs, signal);
  } catch (error) {
    if (signal.aborted || !(error instanceof HearthError) || error.code === "host.path_too_long") throw error;
    return error;
  }
}

/** @throws HearthError `vmm.failed` when Firecracker's answer names no version. */
export function readVersion(body: unknown): FirecrackerVersion {
  const { firecrackerVersion } = fromWire<{ firecrackerVersion?: unknown }>("GET /version", body);
  return parseFirecrackerVersion(String(firecrackerVersion));
}

function notReady(deadlineMs: number, cause: unknown): HearthError {
  return new HearthError("vmm.unresponsive", `Firecracker's API was not ready in ${deadlineMs} ms`, {
    cause,
  });
}
