import assert from "node:assert/strict";
import { test } from "node:test";
import { parseVolumeFilters } from "#model/volume-filter.ts";
import type { FilteredVolume } from "#model/volume-filter.ts";

const VOLUMES: readonly FilteredVolume[] = [
  { name: "data", usedBy: ["web", "web-2"], labels: { team: "web" } },
  { name: "cache", usedBy: [], labels: {} },
  { name: "data-old", usedBy: ["db"], labels: { team: "db", kept: "" } },
];

function chosen(...filters: string[]): string[] {
  return VOLUMES.filter(parseVolumeFilters(filters)).map(({ name }) => name);
}

test("volumes are chosen by labels, by their VMs and by parts of their names", () => {
  assert.deepEqual(chosen(), ["data", "cache", "data-old"]);
  assert.deepEqual(chosen("label=team"), ["data", "data-old"]);
  assert.deepEqual(chosen("label=team=db", "label=kept"), ["data-old"]);
  assert.deepEqual(chosen("vm=web", "vm=db"), ["data", "data-old"]);
  assert.deepEqual(chosen("vm=we"), [], "the name of a VM is whole");
  assert.deepEqual(chosen("name=data", "vm=db"), ["data-old"]);
});

test("a filter that a volume does not have is refused with those that it has", () => {
  for (const text of ["dangling=true", "label=", "data", "constructor=x"])
    assert.throws(() => parseVolumeFilters([text]), {
      code: "input.invalid",
      hint: "Write label=KEY, label=KEY=VALUE, vm=NAME or name=PART.",
    });
});
