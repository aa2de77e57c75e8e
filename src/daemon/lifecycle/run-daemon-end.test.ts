import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { hearthDirs } from "#base/hearth-dirs.ts";
import { SILENT } from "#base/log.ts";
import { runDaemon } from "#daemon/lifecycle/run-daemon.ts";
import type { DaemonOptions } from "#daemon/lifecycle/run-daemon.ts";

class Abandoned extends Error {}

function options(t: TestContext): DaemonOptions {
  const home = mkdtempSync(join(tmpdir(), "hearthd-"));
  t.after(() => rmSync(home, { recursive: true }));
  const abandon = (): never => {
    throw new Abandoned();
  };
  return { dirs: hearthDirs({ HEARTH_HOME: home }, "/"), agentDir: home, log: SILENT, abandon };
}

test("a hearthd that is told to end before it begins does not begin", { timeout: 20_000 }, async (t) => {
  await runDaemon(options(t), () => assert.fail("it is ready"), AbortSignal.abort());
});

test("a hearthd that is told to end while it recovers is abandoned", { timeout: 20_000 }, async (t) => {
  const stop = new AbortController();
  const begun = runDaemon(options(t), () => assert.fail("it is ready"), stop.signal);
  stop.abort();
  await assert.rejects(begun, Abandoned);
});

test(
  "a hearthd that has ended leaves its lock and its socket to the next one",
  { timeout: 20_000 },
  async (t) => {
    const same = options(t);
    for (let times = 0; times < 2; times++) {
      const stop = new AbortController();
      await runDaemon(same, () => stop.abort(), stop.signal);
    }
  },
);
