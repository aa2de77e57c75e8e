/** Filters lists of VMs. */
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import type { Labels } from "#model/labels.ts";
import { parseFilters } from "#model/list-filter.ts";
import type { FilterKeys, Test } from "#model/list-filter.ts";
import { VM_PHASES } from "#model/vm-state.ts";

/** The fields of a VM that filters read. */
export type Filtered = { readonly name: string; readonly phase: string; readonly labels: Labels };

/**
 * Parses `label=KEY`, `label=KEY=VALUE`, `state=PHASE` (also `status=PHASE`, as in Docker) and `name=PART`. A VM must
 * have all labels; several states or names are alternatives.
 * @throws HearthError `input.invalid`
 */
export function parseVmFilters(texts: readonly string[]): Test<Filtered> {
  const plain = texts.map((text) => text.replace(/^status=/, "state="));
  return parseFilters(plain, KEYS, "Write label=KEY, label=KEY=VALUE, state=running or name=PART.");
}

const KEYS: FilterKeys<Filtered> = {
  state(text) {
    if (!VM_PHASES.some((phase) => phase === text)) throw notAState(text);
    return ({ phase }) => phase === text;
  },
  name: (text) => (vm) => vm.name.includes(text),
};

function notAState(text: string): HearthError {
  const near = nearest(text, VM_PHASES);
  const shown = JSON.stringify(text.slice(0, 80));
  return new HearthError("input.invalid", `filter: ${shown} is not a VM state.`, {
    hint: `${near === undefined ? "" : `Did you mean ${near}? `}States are ${VM_PHASES.join(", ")}.`,
  });
}
