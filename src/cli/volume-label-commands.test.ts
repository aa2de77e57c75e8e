import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { Volume } from "#api/wire.ts";
import { runCli } from "#testing/cli-run.ts";
import type { CliResult } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

/** A hearthd without volumes, and command lines that reach it. */
async function setUp(t: TestContext): Promise<(...argv: readonly string[]) => Promise<CliResult>> {
  const served = await serveDaemon(t);
  return (...argv) => runCli(served, argv);
}

test("volumes are labelled, and ls lists those that the filters choose", async (t) => {
  const hearth = await setUp(t);
  const made = await hearth("volume", "create", "data", "--size", "64M", "--label", "team=web", "-l", "kept");
  assert.deepEqual([made.code, made.stdout], [0, "data\n"]);
  await hearth("volume", "create", "cache", "--size", "64M");
  const show = await hearth("volume", "show", "data");
  assert.match(show.stdout, /^owner +local\nlabel +kept\nlabel +team=web\n/m);
  assert.equal((await hearth("volume", "ls", "-q")).stdout, "cache\ndata\n");
  assert.equal((await hearth("volume", "ls", "-q", "--filter", "label=team=web")).stdout, "data\n");
  const other = await hearth("volume", "ls", "-f", "label=team=db");
  assert.match(other.stderr, /No volume is like that/);
});

test("a volume is not made with a label that is none, nor looked for with a filter that is none", async (t) => {
  const hearth = await setUp(t);
  const refused = await hearth("volume", "create", "data", "--size", "64M", "--label", "=web");
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /label/);
  assert.equal((await hearth("volume", "ls", "-q")).stdout, "");
  assert.match((await hearth("volume", "ls", "-f", "dangling=true")).stderr, /is not a filter/);
});

test("a volume of an earlier Hearth, whose record has the time alone, belongs to the local user", async (t) => {
  const hearth = await setUp(t);
  await hearth("volume", "create", "data", "--size", "64M", "--label", "gone");
  const { path } = JSON.parse((await hearth("volume", "show", "data", "--json")).stdout) as Volume;
  const record = `${dirname(path)}/volume.json`;
  assert.match(readFileSync(record, "utf8"), /"labels":{"gone":""}/);
  writeFileSync(record, '{"createdAtMs":7}\n');
  const old = JSON.parse((await hearth("volume", "show", "data", "--json")).stdout) as Volume;
  assert.deepEqual([old.owner, old.labels, old.createdAtMs], ["local", {}, 7]);
});
