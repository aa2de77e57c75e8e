import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Journals } from "#daemon/store/journal.ts";
import { Store } from "#daemon/store/store.ts";
import { operationIdFrom, vmIdFrom } from "#model/ids.ts";

test("flows of one VM that are open together are listed in the order of their begin, whatever the clock says", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "journal-"));
  const store = new Store(join(dir, "hearth.db"));
  t.after(() => {
    store.close();
    rmSync(dir, { recursive: true });
  });
  const journals = new Journals(store);
  const vm = vmIdFrom(new Uint8Array(12));
  t.mock.timers.enable({ apis: ["Date"], now: 1_000_000 });
  for (const [index, kind] of (["snapshot", "stop", "remove"] as const).entries()) {
    journals.open(operationIdFrom(new Uint8Array(6).fill(9 - index)), kind, vm, {});
    t.mock.timers.setTime(1_000_000 - 1_000 * (index + 1));
  }
  const kinds = () => journals.listOpen().map(({ kind }) => kind);
  assert.deepEqual(kinds(), ["snapshot", "stop", "remove"]);
  journals.end("stop", vm);
  assert.deepEqual(kinds(), ["snapshot", "remove"], "each ends by itself");
});
