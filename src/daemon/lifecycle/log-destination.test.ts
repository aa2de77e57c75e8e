import assert from "node:assert/strict";
import { test } from "node:test";
import { logDestination } from "#daemon/lifecycle/log-destination.ts";

test("on a full disk no caller fails, and the first line after it counts the lost lines", () => {
  let full = false;
  let text = "";
  const log = logDestination({
    append(bytes) {
      if (full) throw Object.assign(new Error("write"), { code: "ENOSPC" });
      text += Buffer.from(bytes).toString();
    },
  });
  log.write("one\n");
  full = true;
  log.write("two\n");
  log.write("three\n");
  full = false;
  log.write("four\n");
  const [first, , loss, last] = text.split("\n");
  assert.deepEqual([first, last], ["one", "four"]);
  assert.deepEqual(
    { ...JSON.parse(loss ?? ""), time: "" },
    { level: 40, time: "", event: "log.lost", lines: 2 },
  );
});
