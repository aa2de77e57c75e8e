/** Filters lists of snapshots. */
import type { Labels } from "#model/labels.ts";
import { parseFilters } from "#model/list-filter.ts";
import type { FilterKeys, Test } from "#model/list-filter.ts";

/** The fields of a snapshot that filters read. `vm` is the name of the source VM. */
export type FilteredSnapshot = { readonly name: string; readonly vm: string; readonly labels: Labels };

/**
 * Parses `label=KEY`, `label=KEY=VALUE`, `vm=NAME` and `name=PART`. A snapshot must have all labels; several VMs or
 * names are alternatives.
 * @throws HearthError `input.invalid`
 */
export function parseSnapshotFilters(texts: readonly string[]): Test<FilteredSnapshot> {
  return parseFilters(texts, KEYS, "Write label=KEY, label=KEY=VALUE, vm=NAME or name=PART.");
}

const KEYS: FilterKeys<FilteredSnapshot> = {
  vm: (text) => (snapshot) => snapshot.vm === text,
  name: (text) => (snapshot) => snapshot.name.includes(text),
};
