import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { HearthError } from "#base/error.ts";
import { checkPlace, writeWholeFile } from "#cli/whole-file.ts";
import { CliRun, runCli } from "#testing/cli-run.ts";
import type { CliOptions } from "#testing/cli-run.ts";
import { BreakableRelay } from "#testing/breakable-relay.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const ZSTD_MAGIC = 0xfd2fb528;

/** Starts a hearthd with the snapshot `before`, and makes a directory to work in. */
async function setUp(t: TestContext) {
  const served = await serveDaemon(t);
  const cwd = mkdtempSync(join(tmpdir(), "hearth-export-"));
  t.after(() => rmSync(cwd, { recursive: true }));
  served.host.machine.snapshotBytes = 120 * 2 ** 20;
  await served.run("web");
  await runCli(served, ["snapshot", "create", "web", "before"]);
  const run = (words: readonly string[], options: CliOptions = {}) =>
    runCli(served, ["snapshot", ...words], { cwd, ...options });
  return { served, cwd, run };
}

test("snapshot export writes a file that snapshot import reads, and both print names", async (t) => {
  const { cwd, run } = await setUp(t);
  const { code, stdout, stderr } = await run(["export", "before"]);
  assert.deepEqual([code, stdout], [0, "before.tar.zst\n"]);
  assert.match(
    stderr,
    /^snapshot: exporting before\n\S+B?\. Next, on another host: hearth snapshot import before\.tar/,
  );
  assert.deepEqual(readdirSync(cwd), ["before.tar.zst"]);
  assert.equal(statSync(join(cwd, "before.tar.zst")).mode & 0o777, 0o600);
  const other = await run(["import", "before.tar.zst", "--name", "after"]);
  assert.deepEqual([other.code, other.stdout], [0, "after\n"]);
  assert.match(other.stderr, /Disk and memory: 120M on disk\. Next: hearth create --snapshot after\n$/);
  await run(["rm", "before"]);
  const quiet = await run(["import", "--quiet", join(cwd, "before.tar.zst")]);
  assert.deepEqual(quiet, { code: 0, stdout: "before\n", stderr: "" });
});

test("snapshot export and import print JSON", async (t) => {
  const { cwd, run } = await setUp(t);
  const made = JSON.parse((await run(["export", "--json", "before", "a.zst"])).stdout);
  const file = join(cwd, "a.zst");
  assert.deepEqual(made, { name: "before", file, sizeBytes: statSync(file).size });
  const taken = JSON.parse((await run(["import", "--json", "a.zst"])).stdout);
  assert.equal(taken.error.code, "name.taken");
  const shown = JSON.parse((await run(["import", "--json", "a.zst", "--name", "after"])).stdout);
  assert.deepEqual([shown.name, shown.hasMemory], ["after", true]);
});

test("an archive may be a pipe, but not a terminal", async (t) => {
  const { served, cwd, run } = await setUp(t);
  const pipe = new PassThrough();
  const given = new CliRun(served, ["snapshot", "export", "before", "-"]);
  given.stdoutStream.pipe(pipe);
  const taken = run(["import", "-", "--name", "after"], { stdin: pipe });
  assert.equal(await given.code, 0);
  pipe.end();
  assert.deepEqual([(await taken).code, (await taken).stdout], [0, "after\n"]);
  const asked = served.requests;
  for (const [words, said] of [
    [["export", "before", "-"], /not written to a terminal\.\nhint: Name a file/],
    [["import", "-"], /is not read from a terminal.*\nhint: Name a file/],
  ] as const) {
    const wrong = await run(words, { terminalColumns: 80, env: { NO_COLOR: "1" } });
    assert.deepEqual([wrong.code, wrong.stdout], [2, ""]);
    assert.match(wrong.stderr, said);
  }
  assert.equal(
    JSON.parse((await run(["export", "--json", "before", "-"])).stdout).error.code,
    "input.invalid",
  );
  assert.equal(served.requests, asked);
  assert.deepEqual(readdirSync(cwd), []);
});

test("snapshot export keeps an existing file, unless it is told to replace it", async (t) => {
  const { served, cwd, run } = await setUp(t);
  const file = join(cwd, "before.tar.zst");
  writeFileSync(file, "mine");
  mkdirSync(join(cwd, "dir"));
  symlinkSync("before.tar.zst", join(cwd, "link"));
  const asked = served.requests;
  for (const [words, said] of [
    [["before"], /before\.tar\.zst already exists\.\nhint: .*--force/],
    [["before", "dir", "--force"], /not a regular file\.\nhint: Name a file in it/],
    [["before", "link", "-f"], /not a regular file\.\nhint: Name another file/],
    [["before", "/dev/null", "-f"], /not a regular file/],
    [["before", "no/such"], /There is no directory \S+\/no on this host\.\nhint: Create it first/],
    [["before", "before.tar.zst/in"], /There is no directory/],
  ] as const) {
    const { code, stdout, stderr } = await run(["export", ...words]);
    assert.deepEqual([code, stdout], [1, ""], words.join(" "));
    assert.match(stderr, said);
  }
  assert.equal(served.requests, asked);
  assert.equal(readFileSync(file, "utf8"), "mine");
  assert.equal((await run(["export", "--force", "before"])).code, 0);
  assert.equal(readFileSync(file).readUInt32LE(), ZSTD_MAGIC);
  assert.deepEqual(readdirSync(cwd).toSorted(), ["before.tar.zst", "dir", "link"]);
});

test("an export that breaks off or is refused leaves no new file, and keeps an old one", async (t) => {
  const { served, cwd, run } = await setUp(t);
  assert.match((await run(["export", "gone"])).stderr, /There is no snapshot "gone"/);
  writeFileSync(join(cwd, "old"), "mine");
  const relay = await BreakableRelay.start(t, served);
  relay.bodyLimit = { bytes: 200, cut: true };
  for (const words of [["before"], ["before", "old", "--force"], ["before", "-"]]) {
    const { code, stderr } = await runCli(relay, ["snapshot", "export", ...words], { cwd });
    assert.equal(code, 1);
    assert.match(stderr, /error: hearthd ended its response too early.*\nhint: See `hearth daemon logs`/);
  }
  assert.deepEqual(readdirSync(cwd), ["old"]);
  assert.equal(readFileSync(join(cwd, "old"), "utf8"), "mine");
});

for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)
  test(`${name} ends an export without leaving a file`, async (t) => {
    const { served, cwd } = await setUp(t);
    const relay = await BreakableRelay.start(t, served);
    relay.bodyLimit = { bytes: 200, cut: false };
    const cli = new CliRun(relay, ["snapshot", "export", "before"], { cwd });
    while (readdirSync(cwd).length === 0) await new Promise((resolve) => setImmediate(resolve));
    cli.signal(name);
    assert.equal(await cli.code, code);
    assert.deepEqual([readdirSync(cwd), cli.stdout], [[], ""]);
  });

test("snapshot import reports an invalid file, and keeps nothing of it", async (t) => {
  const { served, cwd, run } = await setUp(t);
  writeFileSync(join(cwd, "text"), "no archive");
  const damaged = await run(["import", "text"]);
  assert.deepEqual([damaged.code, damaged.stdout], [1, ""]);
  assert.match(damaged.stderr, /The archive is damaged/);
  for (const [words, said] of [
    [["gone.zst"], /There is no gone\.zst on this host\.\nhint: /],
    [["text/in"], /There is no text\/in/],
    [["."], /\. is a directory\.\nhint: Name a file in it/],
  ] as const) {
    const { code, stderr } = await run(["import", ...words]);
    assert.equal(code, 1);
    assert.match(stderr, said);
  }
  assert.deepEqual(
    served.host.snapshots.list().map(({ name }) => name),
    ["before"],
  );
});

test("invalid flags and names of archives are refused before hearthd is contacted", async (t) => {
  const { served, run } = await setUp(t);
  const asked = served.requests;
  for (const words of [
    ["export"],
    ["export", "Before"],
    ["export", "../etc"],
    ["export", "before", "a", "b"],
    ["export", "before", "--forec"],
    ["import"],
    ["import", "a", "b"],
    ["import", "a", "--name"],
    ["import", "a", "--name", "A b"],
    ["import", "a", "--force"],
  ]) {
    const { code, stderr } = await run(words);
    assert.equal(code, 2, words.join(" "));
    assert.match(stderr, /^error: .*\nhint: /, words.join(" "));
  }
  assert.equal(served.requests, asked);
});

test("a file that is created during an export is not replaced", async (t) => {
  const { cwd } = await setUp(t);
  const path = join(cwd, "file");
  const content = new PassThrough();
  await checkPlace({ path, replace: false });
  const work = writeWholeFile({ path, replace: false }, content, () => {}, t.signal);
  writeFileSync(path, "theirs");
  content.end("ours");
  await assert.rejects(work, (error) => error instanceof HearthError && error.code === "file.refused");
  assert.equal(readFileSync(path, "utf8"), "theirs");
  assert.deepEqual(readdirSync(cwd), ["file"]);
});
