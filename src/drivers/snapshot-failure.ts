import { HearthError } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";

/** The ways in which a VMM does not do what it is asked; how it is isolated, and whether it is there, is another matter. */
const OF_VMM: ReadonlySet<ErrorCode> = new Set(["vmm.failed", "vmm.unresponsive"]);

/** Gives what a VMM has failed with the code that callers of a `Snapshotter` know; other errors stay as they are. */
export function asSnapshotFailure(sentence: string, error: unknown): unknown {
  const ofVmm = error instanceof HearthError && OF_VMM.has(error.code);
  return ofVmm ? new HearthError("snapshot.failed", sentence, { cause: error }) : error;
}
