import { parseVmName } from "#model/ids.ts";
import { eachTarget } from "#cli/each-target.ts";
import type { Done } from "#cli/each-target.ts";
import type { Out } from "#cli/output.ts";

/**
 * The same to several VMs, as `eachTarget` does it.
 * @throws HearthError `input.invalid` for a word that no VM can be named, before anything is done.
 */
export function eachVm(
  words: readonly string[],
  out: Out,
  act: (name: string) => Promise<Done>,
): Promise<number> {
  return eachTarget(words, parseVmName, out, act);
}
