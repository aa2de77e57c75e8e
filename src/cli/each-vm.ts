import { parseVmName } from "#model/ids.ts";
import { eachTarget } from "#cli/each-target.ts";
import type { Done } from "#cli/each-target.ts";
import type { Out } from "#cli/output.ts";

/**
 * Calls `act` for several VMs, as `eachTarget` does.
 * @throws HearthError `input.invalid` for an invalid VM name, before anything is done.
 */
export function eachVm(
  words: readonly string[],
  out: Out,
  act: (name: string) => Promise<Done>,
): Promise<number> {
  return eachTarget(words, parseVmName, out, act);
}
