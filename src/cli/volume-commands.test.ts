import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("volume create takes a size, or a directory to copy, relative to the current one", async (t) => {
  const served = await serveDaemon(t);
  const cwd = mkdtempSync(join(tmpdir(), "hearth-volume-"));
  t.after(() => rmSync(cwd, { recursive: true }));
  mkdirSync(join(cwd, "public"));
  writeFileSync(join(cwd, "public", "photo.jpg"), randomBytes(2 ** 20));
  const { code, stdout, stderr } = await runCli(served, ["volume", "create", "data", "--size", "4G"]);
  assert.deepEqual([code, stdout], [0, "data\n"]);
  assert.match(stderr, /Next: hearth run --volume data:\/data debian/);
  const quiet = await runCli(served, ["volume", "create", "site", "--from", "./public", "--quiet"], { cwd });
  assert.deepEqual(quiet, { code: 0, stdout: "site\n", stderr: "" });
  const [data, site] = await served.host.volumes.list();
  assert.equal(data?.sizeBytes, 4 * 2 ** 30);
  assert.ok(Number(data?.allocatedBytes) < 2 ** 20 && Number(site?.allocatedBytes) >= 2 ** 20);
});

test("a bad name, size, path or a path twice is a usage error before hearthd is contacted", async (t) => {
  const served = await serveDaemon(t);
  for (const words of [
    ["volume", "create", "Data", "--size", "4G"],
    ["volume", "create", "data", "--size", "4"],
    ["volume", "create", "data", "--size", "1M"],
    ["create", "--volume", "data", "debian"],
    ["create", "--volume", "data:/proc", "debian"],
    ["create", "--volume", "a:/x", "--volume", "b:/x", "debian"],
    ["create", "--volume", "a:/x", "--volume", "a:/y", "debian"],
  ]) {
    const { code, stderr } = await runCli(served, words);
    assert.equal(code, 2, words.join(" "));
    assert.match(stderr, /^error: .*\nhint: /);
  }
  assert.equal(served.requests, 0);
});

test("volumes of a VM are passed to hearthd as they were given", async (t) => {
  const served = await serveDaemon(t);
  for (const name of ["a", "b"]) await runCli(served, ["volume", "create", name, "--size", "1G"]);
  await runCli(served, [
    "create",
    "--no-start",
    "--volume",
    "a:/x",
    "--volume",
    "b:/y:ro",
    "--name",
    "web",
    "debian",
  ]);
  assert.deepEqual(served.vm("web")?.spec.volumes, [
    { name: "a", path: "/x", readOnly: false },
    { name: "b", path: "/y", readOnly: true },
  ]);
  const shown = await runCli(served, ["show", "web"]);
  assert.match(shown.stdout, /^volume +a:\/x\nvolume +b:\/y:ro$/m);
});

test("volume ls, show and rm print names, a table, JSON, and errors for missing ones", async (t) => {
  const served = await serveDaemon(t);
  assert.match((await runCli(served, ["volume", "ls"])).stderr, /hearth volume create data --size 4G/);
  for (const name of ["a", "b"]) await runCli(served, ["volume", "create", name, "--size", "1G"]);
  assert.equal((await runCli(served, ["volume", "ls", "-q"])).stdout, "a\nb\n");
  assert.match(
    (await runCli(served, ["volume", "ls"])).stdout,
    /^VOLUME +USED +SIZE +CREATED +VMS\na +\d+K +1\.0G/,
  );
  assert.match((await runCli(served, ["volume", "show", "a"])).stdout, /^size +1G, \d+K on disk$/m);
  assert.equal(JSON.parse((await runCli(served, ["volume", "show", "--json", "a"])).stdout).name, "a");
  const removed = await runCli(served, ["volume", "rm", "a", "gone", "b"]);
  assert.deepEqual([removed.code, removed.stdout], [1, "a\nb\n"]);
  assert.match(removed.stderr, /There is no volume gone/);
});
