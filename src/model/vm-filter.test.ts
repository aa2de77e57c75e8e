import assert from "node:assert/strict";
import { test } from "node:test";
import { parseVmFilters } from "#model/vm-filter.ts";
import type { Filtered } from "#model/vm-filter.ts";

const VMS: readonly Filtered[] = [
  { name: "web-1", phase: "running", labels: { team: "web", ci: "" } },
  { name: "web-2", phase: "stopped", labels: { team: "web" } },
  { name: "db", phase: "paused", labels: {} },
];

function chosen(...filters: string[]): string[] {
  return VMS.filter(parseVmFilters(filters)).map(({ name }) => name);
}

test("a VM must have all labels, and one of several states or names", () => {
  assert.deepEqual(chosen(), ["web-1", "web-2", "db"]);
  assert.deepEqual(chosen("label=team"), ["web-1", "web-2"]);
  assert.deepEqual(chosen("label=team=web", "label=ci"), ["web-1"]);
  assert.deepEqual(chosen("label=ci="), ["web-1"], "with an empty value");
  assert.deepEqual(chosen("label=team="), []);
  assert.deepEqual(chosen("state=running", "status=paused"), ["web-1", "db"]);
  assert.deepEqual(chosen("name=web", "name=d"), ["web-1", "web-2", "db"]);
  assert.deepEqual(chosen("name=web", "state=stopped", "label=team=web"), ["web-2"]);
});

test("properties that every object has are no labels of a VM", () => {
  assert.deepEqual(chosen("label=constructor"), []);
});

test("an invalid filter is refused with the rule, and with the nearest state", () => {
  for (const text of ["", "web", "name=", "label=", "id=x", "=x"])
    assert.throws(() => parseVmFilters([text]), { code: "input.invalid", hint: /label=KEY/ }, text);
  assert.throws(() => parseVmFilters(["state=runing"]), {
    code: "input.invalid",
    hint: /Did you mean running\?/,
  });
  assert.throws(() => parseVmFilters(["label=a b"]), { code: "input.invalid", message: /label key/ });
});
