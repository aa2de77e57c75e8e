import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { CliRun } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

for (const [what, typed, code, isRemoved] of [
  ["y", "y\n", 0, true],
  ["n", "n\n", 1, false],
  ["Enter", "\n", 1, false],
  ["Ctrl-C", "\u0003", 130, false],
  ["Ctrl-D", "\u0004", 1, false],
] as const) {
  test(`${what} at a question ends the command with ${code}, without an error`, async (t) => {
    const served = await serveDaemon(t);
    await served.runAndStop("old");
    const stdin = new PassThrough();
    const cli = new CliRun(served, ["prune"], { terminalColumns: 80, stdin });
    await once(cli.stderrStream, "data");
    stdin.write(typed);
    assert.equal(await cli.code, code);
    assert.equal(served.vm("old") === undefined, isRemoved);
    assert.doesNotMatch(cli.stderr, /error/);
  });
}

test("a terminal that goes away at a question is no yes", async (t) => {
  const served = await serveDaemon(t);
  await served.runAndStop("old");
  const cli = new CliRun(served, ["prune"], { terminalColumns: 80, stdin: "" });
  assert.equal(await cli.code, 1);
  assert.ok(served.vm("old"));
});
