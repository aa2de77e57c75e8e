import type { Snapshot } from "#api/wire.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import type { Out } from "#cli/output.ts";

/** Prints the result of a command that has created a snapshot. */
export function printCreatedSnapshot(out: Out, made: Snapshot): void {
  out.clearProgress();
  if (out.wantsJson) return out.json(made);
  const name = made.name ?? made.id;
  out.line(name);
  const saved = made.hasMemory ? "Disk and memory" : "The disk";
  out.note(
    `${saved}: ${formatSizeRounded(made.allocatedBytes)} on disk. Next: hearth create --snapshot ${name}`,
  );
}
