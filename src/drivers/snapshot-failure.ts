import { HearthError } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";

/** The codes of a VMM that does not do what it is asked. Missing isolation and a missing VMM are other failures. */
const OF_VMM: ReadonlySet<ErrorCode> = new Set(["vmm.failed", "vmm.unresponsive"]);

/** Returns a VMM's failure with the code that callers of a `Snapshotter` expect; other errors stay as they are. */
export function asSnapshotFailure(sentence: string, error: unknown): unknown {
  const ofVmm = error instanceof HearthError && OF_VMM.has(error.code);
  return ofVmm ? new HearthError("snapshot.failed", sentence, { cause: error }) : error;
}
