import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

test("volume create takes a size or a folder, which hearthd gets as an absolute path", async () => {
  await using api = await FakeApi.start();
  const { code, stdout, stderr } = await runCli(api, ["volume", "create", "data", "--size", "4G"]);
  assert.deepEqual([code, stdout], [0, "data\n"]);
  assert.match(stderr, /Next: hearth run --volume data:\/data debian/);
  await runCli(api, ["volume", "create", "site", "--from", "./public", "--quiet"]);
  const bodies = api.requests.filter(({ method }) => method === "POST").map(({ body }) => body);
  assert.deepEqual(bodies, [
    { name: "data", sizeBytes: 4 * 2 ** 30 },
    { name: "site", from: `${process.cwd()}/public` },
  ]);
});

test("a bad name, size, path or a path twice is a usage error before hearthd hears of it", async () => {
  await using api = await FakeApi.start();
  for (const words of [
    ["volume", "create", "Data", "--size", "4G"],
    ["volume", "create", "data", "--size", "4"],
    ["volume", "create", "data", "--size", "1M"],
    ["create", "--volume", "data", "debian"],
    ["create", "--volume", "data:/proc", "debian"],
    ["create", "--volume", "a:/x", "--volume", "b:/x", "debian"],
    ["create", "--volume", "a:/x", "--volume", "a:/y", "debian"],
  ]) {
    const { code, stderr } = await runCli(api, words);
    assert.equal(code, 2, words.join(" "));
    assert.match(stderr, /^error: .*\nhint: /);
  }
  assert.deepEqual(api.requests, []);
});

test("volumes of a VM go to hearthd as they were given", async () => {
  await using api = await FakeApi.start();
  await runCli(api, [
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
  assert.deepEqual(api.vms.get("web")?.volumes, [
    { name: "a", path: "/x", readOnly: false },
    { name: "b", path: "/y", readOnly: true },
  ]);
  const shown = await runCli(api, ["show", "web"]);
  assert.match(shown.stdout, /^volume +a:\/x\nvolume +b:\/y:ro$/m);
});

test("volume ls, show and rm print names, a table, JSON, and what is missing", async () => {
  await using api = await FakeApi.start();
  assert.match((await runCli(api, ["volume", "ls"])).stderr, /hearth volume create data --size 4G/);
  for (const name of ["a", "b"]) await runCli(api, ["volume", "create", name, "--size", "1G"]);
  assert.equal((await runCli(api, ["volume", "ls", "-q"])).stdout, "a\nb\n");
  assert.match(
    (await runCli(api, ["volume", "ls"])).stdout,
    /^VOLUME +USED +SIZE +CREATED +VMS\na +0B +1\.0G/,
  );
  assert.match((await runCli(api, ["volume", "show", "a"])).stdout, /^size +1G, 0B on disk$/m);
  assert.equal(JSON.parse((await runCli(api, ["volume", "show", "--json", "a"])).stdout).name, "a");
  const removed = await runCli(api, ["volume", "rm", "a", "gone", "b"]);
  assert.deepEqual([removed.code, removed.stdout], [1, "a\nb\n"]);
  assert.match(removed.stderr, /There is no volume gone/);
});
