/** From the start of a VMM to the agent's first answer. */
import { setTimeout as sleep } from "node:timers/promises";
import { HearthError, toHearthError } from "#base/error.ts";
import { connectAgent, type AgentClient, type GuestReport } from "#guest/agent-client.ts";
import type { AgentAddress } from "#model/vm-handle.ts";
import { abortError, unreachable } from "#guest/agent-error.ts";

/** Between attempts that failed at once: the socket is not there yet, or the agent's end was just closed. */
const RETRY_AFTER_MS = 20;
/**
 * How long the first attempt by vsock may take; after one that was not answered twice as long. What is sent to a guest
 * that was just restored can be lost: nobody sends it again, and the connection would wait for good.
 */
const VSOCK_ATTEMPT_MS = 3_000;

export type WaitOptions = {
  /** From now until the agent's answer. */
  readonly deadlineMs: number;
  /** Of the first attempt by vsock; 3 s when left out. */
  readonly vsockAttemptMs?: number | undefined;
  /** What an attempt failed with, for progress and logs. */
  readonly onAttempt?: ((error: HearthError) => void) | undefined;
};

export type ReadyAgent = { readonly agent: AgentClient; readonly report: GuestReport };

/**
 * Connects and shakes hands, as often as it takes. A virtio-serial port holds back what the host sends until
 * the guest opens its end, so the first hello of a long wait arrives as soon as there is somebody to read it:
 * one connection that waits is quicker than many that are tried. Nothing is asked: in an emulated guest the
 * first answer of each kind is slow, so the caller's own first question is the better one.
 * @throws HearthError `agent.unreachable` at the deadline, with what the last attempt failed with
 */
export function reachAgent(
  address: AgentAddress,
  options: WaitOptions,
  signal: AbortSignal,
): Promise<AgentClient> {
  return untilAnswered(address, (either) => connectAgent(address, either), options, signal);
}

/** The same, and asks for `info`. */
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
      // An abort ends the wait early; the loop's condition sees it.
      await sleep(RETRY_AFTER_MS, undefined, { signal: either }).catch(() => undefined);
    }
  }
  if (signal.aborted) throw abortError(signal);
  throw unreachable(last?.cause ?? new Error(`It gave no answer in ${options.deadlineMs} ms.`));
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
