import assert from "node:assert/strict";
import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { findProgram } from "#host/find-program.ts";
import { listCommands } from "#host/procfs.ts";
import { run } from "#host/run.ts";
import { APART, closedAbove } from "#testing/apart-hearthd.ts";

/** Runs one scenario of `testing/pasta-scenarios.ts` on a host of its own, as a user without rights. */
const SCENARIOS = fileURLToPath(new URL("../testing/pasta-scenarios.ts", import.meta.url));

function denial(): string | false {
  if (process.geteuid?.() !== 0) return "it takes root to make the host";
  if (findProgram("pasta") === undefined) return "pasta is not installed";
  const closed = closedAbove(SCENARIOS);
  return closed === undefined ? false : `the user ${APART.uid} cannot read the checkout: ${closed} is closed`;
}
const skip = denial();

/** Runs a scenario, after which no process may be left. */
async function play(t: TestContext, scenario: string): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-pasta-"));
  chownSync(dir, APART.uid, APART.gid);
  t.after(() => rmSync(dir, { recursive: true }));
  const argv = ["--net", process.execPath, SCENARIOS, scenario, dir];
  const { ok, stdout, stderr } = await run("unshare", argv, { timeoutMs: 60_000, signal: t.signal });
  assert.ok(ok, stderr);
  assert.equal(stdout, "done\n", stderr);
  const left = listCommands().filter(({ argv: words }) => words.some((word) => word.startsWith(dir)));
  assert.deepEqual(left, []);
}

test("a network without root is made twice and removed twice", { skip }, (t) => play(t, "twice"));

test("a policy without root is replaced, and one with domains refused", { skip }, (t) => play(t, "changed"));

test("a network without root that cannot be made, and one that is cancelled, leave nothing", { skip }, (t) =>
  play(t, "fail"),
);

test("networks without root that are made at the same moment are found, and all go", { skip }, (t) =>
  play(t, "contend"),
);

test("what a killed hearthd has left of a network without root is removed", { skip }, (t) =>
  play(t, "killed"),
);

test("a process that only says that it holds a network is not taken for one", { skip }, (t) =>
  play(t, "false"),
);
