/** Waits from the start of a VMM to the agent's first answer. */
import { setTimeout as sleep } from "node:timers/promises";
import { HearthError, toHearthError } from "#base/error.ts";
import { connectAgent, type AgentClient, type GuestReport } from "#guest/agent-client.ts";
import type { AgentAddress } from "#model/vm-handle.ts";
import { abortError, unreachable } from "#guest/agent-error.ts";

/**
 * The pause after an attempt that failed at once: the socket does not exist yet, or the agent's end was just closed.
 */
const RETRY_AFTER_MS = 20;
/**
 * The time limit of the first attempt over vsock. Each attempt without an answer doubles it. Data sent to a guest that
 * was just restored can be lost, without a retransmission, and the connection would hang forever.
 */
const VSOCK_ATTEMPT_MS = 3_000;

export type WaitOptions = {
  /** The time limit for all attempts together. */
  readonly deadlineMs: number;
  /** The time limit of the first attempt over vsock. Default: 3 s. */
  readonly vsockAttemptMs?: number | undefined;
  /** Gets the error of each failed attempt, for progress and logs. */
  readonly onAttempt?: ((error: HearthError) => void) | undefined;
};

export type ReadyAgent = { readonly agent: AgentClient; readonly report: GuestReport };

/**
 * Connects and performs the handshake, with as many attempts as it takes. A virtio-serial port keeps what the host
 * sends until the guest opens its end, so one connection that waits is faster than many short ones. No question is
 * asked: the first answer of each kind is slow in an emulated guest, so it is better to ask only what the caller needs.
 * @throws HearthError `agent.unreachable` at the deadline, with the error of the last attempt.
 */
export function reachAgent(
  address: AgentAddress,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<AgentClient> {
  return untilAnswered(address, (either) => connectAgent(address, either), options, signal);
}

/** Connects like `reachAgent`, and asks for `info`. */
export function waitForAgent(
  address: AgentAddress,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<ReadyAgent> {
  return untilAnswered(address, (either) => askOnce(address, either), options, signal);
}

async function untilAnswered<Answer>(
  { agentVsockPort }: AgentAddress,
  attempt: (signal: AbortSignal) => Promise<Answer>,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<Answer> {
  const deadline = AbortSignal.timeout(options.deadlineMs);
  const either = AbortSignal.any([signal, deadline]);
  let last: HearthError | undefined;
  let attemptMs = options.vsockAttemptMs ?? VSOCK_ATTEMPT_MS;
  while (!either.aborted) {
    const late = agentVsockPort === undefined ? undefined : AbortSignal.timeout(attemptMs);
    try {
      return await attempt(late === undefined ? either : AbortSignal.any([either, late]));
    } catch (error) {
      if (either.aborted) break;
      last = late?.aborted === true ? unreachable(error) : toHearthError(error);
      if (late?.aborted === true) attemptMs *= 2;
      if (last.code !== "agent.unreachable" && last.code !== "agent.failed") throw last;
      options.onAttempt?.(last);
      // An abort ends the pause, and the loop's condition sees it.
      await sleep(RETRY_AFTER_MS, undefined, { signal: either }).catch(() => undefined);
    }
  }
  if (signal.aborted) throw abortError(signal);
  throw unreachable(last?.cause ?? new Error(`It did not answer within ${options.deadlineMs} ms.`));
}

async function askOnce(address: AgentAddress, signal: AbortSignal): Promise<ReadyAgent> {
  const agent = await connectAgent(address, signal);
  try {
    return { agent, report: await agent.info(signal) };
  } catch (error) {
    agent.close();
    throw error;
  }
}
