import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSnapshotFilters } from "#model/snapshot-filter.ts";
import type { FilteredSnapshot } from "#model/snapshot-filter.ts";

const SNAPSHOTS: readonly FilteredSnapshot[] = [
  { name: "before", vm: "web", labels: { nightly: "" } },
  { name: "after", vm: "web", labels: {} },
  { name: "before-db", vm: "db", labels: { nightly: "", kept: "yes" } },
];

function chosen(...filters: string[]): string[] {
  return SNAPSHOTS.filter(parseSnapshotFilters(filters)).map(({ name }) => name);
}

test("snapshots are chosen by labels, by their VM and by parts of their names", () => {
  assert.deepEqual(chosen(), ["before", "after", "before-db"]);
  assert.deepEqual(chosen("label=nightly"), ["before", "before-db"]);
  assert.deepEqual(chosen("label=nightly", "vm=web"), ["before"]);
  assert.deepEqual(chosen("vm=web", "vm=db", "name=before"), ["before", "before-db"]);
  assert.deepEqual(chosen("vm=we"), [], "the name of a VM is whole");
});

test("a filter that a snapshot does not have is refused with those that it has", () => {
  for (const text of ["state=running", "label=", "web", "constructor=x"])
    assert.throws(() => parseSnapshotFilters([text]), {
      code: "input.invalid",
      hint: "Write label=KEY, label=KEY=VALUE, vm=NAME or name=PART.",
    });
});
