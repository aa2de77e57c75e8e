/** Chooses snapshots of a list. */
import type { Labels } from "#model/labels.ts";
import { parseFilters } from "#model/list-filter.ts";
import type { FilterKeys, Test } from "#model/list-filter.ts";

/** What of a snapshot a filter looks at; `vm` is the name of the VM that was saved. */
export type FilteredSnapshot = { readonly name: string; readonly vm: string; readonly labels: Labels };

/**
 * Reads `label=KEY`, `label=KEY=VALUE`, `vm=NAME` and `name=PART`. All labels have to be there; of several VMs or names
 * one is enough.
 * @throws HearthError `input.invalid`
 */
export function parseSnapshotFilters(texts: readonly string[]): Test<FilteredSnapshot> {
  return parseFilters(texts, KEYS, "Write label=KEY, label=KEY=VALUE, vm=NAME or name=PART.");
}

const KEYS: FilterKeys<FilteredSnapshot> = {
  vm: (text) => (snapshot) => snapshot.vm === text,
  name: (text) => (snapshot) => snapshot.name.includes(text),
};
