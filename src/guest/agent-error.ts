/** The errors of calls to an agent. */
import { Code, ConnectError } from "@connectrpc/connect";
import { HearthError, toError, type ErrorCode } from "#base/error.ts";
import { identityFailure } from "#guest/identity-failure.ts";
import { guestText } from "#guest/guest-text.ts";

/** The codes that an agent may name in the header `hearth-code`. All others are ignored. */
const GUEST_CODES: ReadonlySet<string> = new Set<ErrorCode>([
  "exec.not_found",
  "exec.not_executable",
  "exec.bad_user",
  "file.not_found",
  "file.refused",
  "input.invalid",
  "guest.disk_full",
  "vm.identity_failed",
]);
/** A code of older agents. Now a guest may not claim that the host's disk is full. */
const OLD_DISK_FULL = "host.disk_full";
const MESSAGE_MAX_CHARS = 1_000;
/** ConnectRPC's message, in an invalid-argument error, for an answer that broke off between two messages. */
const BROKEN_OFF = /missing EndStreamResponse/;
const UNREACHABLE_HINT =
  "See `hearth show VM` for the state of the VM, and `hearth logs VM` for its console.";

/** Returns the error for an agent that does not answer, or whose connection is lost. */
export function unreachable(cause?: unknown): HearthError {
  return new HearthError("agent.unreachable", "The guest agent cannot be reached.", {
    hint: UNREACHABLE_HINT,
    cause,
  });
}

/** Returns the reason for which `signal` was aborted: its HearthError, a timeout, or a cancellation. */
export function abortError(signal: AbortSignal): HearthError {
  const reason: unknown = signal.reason;
  if (reason instanceof HearthError) return reason;
  if (reason instanceof Error && reason.name === "TimeoutError") {
    return new HearthError("operation.timed_out", "The guest agent did not answer in time.", {
      hint: UNREACHABLE_HINT,
      cause: reason,
    });
  }
  return new HearthError("operation.cancelled", "The operation was cancelled.", { cause: reason });
}

/**
 * Converts anything that a call to the agent threw. `lost` is the reason for a lost connection: every call that was
 * running fails with a different symptom, and gets this reason instead.
 */
export function agentError(thrown: unknown, lost: Error | undefined, signal: AbortSignal): HearthError {
  if (signal.aborted) return abortError(signal);
  if (thrown instanceof HearthError) return thrown;
  if (lost !== undefined) return unreachable(lost);
  if (!(thrown instanceof ConnectError)) return failed(toError(thrown).message, thrown);
  // ConnectRPC wraps the errors of the session and of the request's source.
  if (thrown.cause instanceof HearthError) return thrown.cause;
  // The guest chose this text: it is made safe to print.
  const message = guestText(thrown.rawMessage, MESSAGE_MAX_CHARS);
  const sentCode = thrown.metadata.get("hearth-code") ?? "";
  const named = sentCode === OLD_DISK_FULL ? "guest.disk_full" : sentCode;
  if (named === "vm.identity_failed") {
    const failure = identityFailure(thrown);
    if (failure !== undefined) return failure;
  }
  if (GUEST_CODES.has(named)) return new HearthError(named as ErrorCode, sentence(message));
  if (BROKEN_OFF.test(message)) return unreachable(new Error("Its response was incomplete."));
  return byConnectCode(thrown.code, message, thrown);
}

function byConnectCode(code: Code, message: string, cause: ConnectError): HearthError {
  switch (code) {
    case Code.DeadlineExceeded:
      return new HearthError("operation.timed_out", "The guest agent did not finish in time.", { cause });
    case Code.InvalidArgument:
      return new HearthError("input.invalid", sentence(message));
    case Code.Unimplemented:
      return new HearthError("feature.missing", "The guest agent does not support this request.", {
        hint: "Restart the VM: its agent is older than hearthd.",
      });
    case Code.Unavailable:
    case Code.Aborted:
      return unreachable(new Error(message));
    default:
      return failed(message);
  }
}

function failed(message: string, cause?: unknown): HearthError {
  const text = guestText(message, MESSAGE_MAX_CHARS);
  return new HearthError("agent.failed", `The guest agent failed: ${sentence(text)}`, {
    hint: UNREACHABLE_HINT,
    // The message of `cause` is part of the new error's message already.
    cause: cause instanceof Error ? cause.cause : undefined,
  });
}

function sentence(text: string): string {
  if (text === "") return "It gave no reason.";
  const upper = text[0]?.toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(upper) ? upper : `${upper}.`;
}
