/** Filters lists of volumes. */
import type { Labels } from "#model/labels.ts";
import { parseFilters } from "#model/list-filter.ts";
import type { FilterKeys, Test } from "#model/list-filter.ts";

/** The fields of a volume that filters read. `usedBy` are the names of its VMs. */
export type FilteredVolume = {
  readonly name: string;
  readonly usedBy: readonly string[];
  readonly labels: Labels;
};

/**
 * Parses `label=KEY`, `label=KEY=VALUE`, `vm=NAME` and `name=PART`. A volume must have all labels; several VMs or names
 * are alternatives.
 * @throws HearthError `input.invalid`
 */
export function parseVolumeFilters(texts: readonly string[]): Test<FilteredVolume> {
  return parseFilters(texts, KEYS, "Write label=KEY, label=KEY=VALUE, vm=NAME or name=PART.");
}

const KEYS: FilterKeys<FilteredVolume> = {
  vm: (text) => (volume) => volume.usedBy.includes(text),
  name: (text) => (volume) => volume.name.includes(text),
};
