import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { Vm, Volume } from "#api/wire.ts";
import { runCli } from "#testing/cli-run.ts";
import type { CliResult } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("labels of create and run go to hearthd as they were given", async (t) => {
  const served = await serveDaemon(t);
  const labels = ["--label", "team=web", "-l", "ci"];
  await runCli(served, ["create", "--no-start", "--name", "web", ...labels, "debian"]);
  await runCli(served, ["run", "-d", "--name", "db", ...labels, "debian"]);
  for (const name of ["web", "db"]) assert.deepEqual(served.vm(name)?.labels, { team: "web", ci: "" });
  assert.match((await runCli(served, ["show", "web"])).stdout, /^label +ci\nlabel +team=web\n/m);
});

test("set sets labels, and removes those that end in -", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web", { image: "debian", labels: { old: "1", kept: "yes" } });
  const { code, stdout } = await runCli(served, ["set", "web", "--label", "team=web", "--label", "old-"]);
  assert.equal(code, 0);
  assert.match(stdout, /, labels kept=yes team=web\n$/);
  assert.deepEqual(served.vm("web")?.labels, { kept: "yes", team: "web" });
});

test("ls and ps list all VMs, or those that the filters choose, with Docker's flags", async (t) => {
  const served = await serveDaemon(t);
  const labelled = { image: "debian", labels: { team: "web" } };
  await served.run("db");
  await served.runAndStop("old-web", labelled);
  await served.run("web", labelled);
  const names = async (...words: string[]) =>
    (await runCli(served, words)).stdout.split("\n").filter(Boolean);
  assert.deepEqual(await names("ls", "-q"), ["web", "old-web", "db"]);
  assert.deepEqual(await names("ps", "-aq"), ["web", "old-web", "db"]);
  assert.deepEqual(await names("ls", "--all", "--quiet", "--filter", "label=team"), ["web", "old-web"]);
  assert.deepEqual(await names("ps", "-q", "-f", "label=team=web", "-f", "status=running"), ["web"]);
  const json = JSON.parse((await runCli(served, ["ls", "--json", "--filter", "name=old"])).stdout) as Vm[];
  assert.deepEqual(
    json.map(({ name, labels }) => [name, labels]),
    [["old-web", { team: "web" }]],
  );
  assert.match((await runCli(served, ["ls", "--filter", "label=none"])).stderr, /No VM matches the filter/);
});

test("snapshots are labelled, and ls lists those that the filters choose", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  await served.run("db");
  await runCli(served, ["snapshot", "create", "web", "before", "--label", "nightly", "-l", "kept=yes"]);
  await runCli(served, ["snapshot", "create", "db", "before-db", "--label", "nightly"]);
  await runCli(served, ["snapshot", "create", "web", "after"]);
  assert.deepEqual(
    served.host.snapshots.list().map(({ name, labels }) => [name, labels]),
    [
      ["after", {}],
      ["before-db", { nightly: "" }],
      ["before", { nightly: "", kept: "yes" }],
    ],
  );
  const names = async (...words: string[]) =>
    (await runCli(served, words)).stdout.split("\n").filter(Boolean);
  assert.deepEqual(await names("snapshot", "ls", "-q"), ["after", "before-db", "before"]);
  assert.deepEqual(await names("snapshots", "-q", "-f", "label=nightly"), ["before-db", "before"]);
  assert.deepEqual(await names("snapshots", "-q", "-f", "vm=web", "-f", "label=kept=yes"), ["before"]);
  assert.match(
    (await runCli(served, ["snapshot", "show", "before"])).stdout,
    /^label +kept=yes\nlabel +nightly\n/m,
  );
  assert.match(
    (await runCli(served, ["snapshots", "-f", "name=none"])).stderr,
    /No snapshot matches the filter/,
  );
});

test("an invalid label or filter is a usage error before hearthd is contacted", async (t) => {
  const served = await serveDaemon(t);
  for (const words of [
    ["create", "--label", "a b=x", "debian"],
    ["create", "--label", "k=1", "--label", "k=2", "debian"],
    ["set", "web", "--label", "-"],
    ["ls", "--filter", "team=web"],
    ["ls", "--filter", "state=up"],
    ["snapshot", "ls", "--filter", "state=running"],
    ["snapshot", "create", "--label", "a b=x", "web"],
  ]) {
    const { code, stderr } = await runCli(served, words);
    assert.equal(code, 2, words.join(" "));
    assert.match(stderr, /^error: .*\nhint: /);
  }
  assert.equal(served.requests, 0);
});

/** Starts a hearthd without volumes. Returns a function that runs command lines with it. */
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
  assert.match(other.stderr, /No volume matches the filter/);
});

test("a volume command with an invalid label or filter is a usage error", async (t) => {
  const hearth = await setUp(t);
  const refused = await hearth("volume", "create", "data", "--size", "64M", "--label", "=web");
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /label/);
  assert.equal((await hearth("volume", "ls", "-q")).stdout, "");
  assert.match((await hearth("volume", "ls", "-f", "dangling=true")).stderr, /is not a filter/);
});

test("a volume of an earlier Hearth, whose record has only the time, belongs to the local user", async (t) => {
  const hearth = await setUp(t);
  await hearth("volume", "create", "data", "--size", "64M", "--label", "gone");
  const { path } = JSON.parse((await hearth("volume", "show", "data", "--json")).stdout) as Volume;
  const record = `${dirname(path)}/volume.json`;
  assert.match(readFileSync(record, "utf8"), /"labels":{"gone":""}/);
  writeFileSync(record, '{"createdAtMs":7}\n');
  const old = JSON.parse((await hearth("volume", "show", "data", "--json")).stdout) as Volume;
  assert.deepEqual([old.owner, old.labels, old.createdAtMs], ["local", {}, 7]);
});
