/** Errors for the parts of its identity that a restored guest could not renew; see Configure in proto/. */
import { ConnectError } from "@connectrpc/connect";
import { HearthError } from "#base/error.ts";
import { IdentityNotRenewedSchema } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { guestText } from "#guest/guest-text.ts";

const PART_MAX_CHARS = 30;
const REASON_MAX_CHARS = 300;
/** The agent names each of its five parts once. */
const FAILURES_MAX = 5;

/** Returns the error if the agent named parts that it could not renew, and undefined otherwise. */
export function identityFailure(thrown: ConnectError): HearthError | undefined {
  const failures = thrown.findDetails(IdentityNotRenewedSchema).flatMap((detail) => detail.failures);
  return failures.length === 0 ? undefined : notRenewed(failures);
}

/**
 * The warnings of older agents, in memory that an older hearthd saved. Such agents let the guest run and only warn.
 * Warnings that begin otherwise are no reason to end the guest.
 */
const OLD_WARNINGS: readonly (readonly [start: string, part: string])[] = [
  ["The entropy could not be added", "entropy"],
  ["The clock could not be set", "clock"],
  ["The boot id stays the snapshot's", "boot id"],
  ["The machine id could not be written", "machine id"],
  ["The SSH host keys stay the snapshot's", "SSH host keys"],
];

/** Returns the error for the warnings with which an older agent answered for a restored guest. */
export function identityFailureIn(warnings: readonly string[]): HearthError | undefined {
  const failures = warnings.flatMap((warning) =>
    OLD_WARNINGS.filter(([start]) => warning.startsWith(start)).map(([start, part]) => ({
      part,
      reason: warning.slice(start.length).replace(/^: /, ""),
    })),
  );
  return failures.length === 0 ? undefined : notRenewed(failures);
}

function notRenewed(failures: readonly { part: string; reason: string }[]): HearthError {
  const parts = failures
    .slice(0, FAILURES_MAX)
    .map(({ part, reason }) => `${guestText(part, PART_MAX_CHARS)} (${guestText(reason, REASON_MAX_CHARS)})`);
  return new HearthError("vm.identity_failed", `The restored guest could not renew its ${parts.join(", ")}.`);
}
