/** Chooses volumes of a list. */
import type { Labels } from "#model/labels.ts";
import { parseFilters } from "#model/list-filter.ts";
import type { FilterKeys, Test } from "#model/list-filter.ts";

/** What of a volume a filter looks at; `usedBy` are the names of the VMs that have it. */
export type FilteredVolume = {
  readonly name: string;
  readonly usedBy: readonly string[];
  readonly labels: Labels;
};

/**
 * Reads `label=KEY`, `label=KEY=VALUE`, `vm=NAME` and `name=PART`. All labels have to be there; of several VMs or names
 * one is enough.
 * @throws HearthError `input.invalid`
 */
export function parseVolumeFilters(texts: readonly string[]): Test<FilteredVolume> {
  return parseFilters(texts, KEYS, "Write label=KEY, label=KEY=VALUE, vm=NAME or name=PART.");
}

const KEYS: FilterKeys<FilteredVolume> = {
  vm: (text) => (volume) => volume.usedBy.includes(text),
  name: (text) => (volume) => volume.name.includes(text),
};
