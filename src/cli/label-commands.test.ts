import assert from "node:assert/strict";
import { test } from "node:test";
import type { Vm } from "#api/wire.ts";
import { runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

test("labels of create and run go to hearthd as they were given", async () => {
  await using api = await FakeApi.start();
  const labels = ["--label", "team=web", "-l", "ci"];
  await runCli(api, ["create", "--no-start", "--name", "web", ...labels, "debian"]);
  await runCli(api, ["run", "-d", "--name", "db", ...labels, "debian"]);
  for (const name of ["web", "db"]) assert.deepEqual(api.vms.get(name)?.labels, { team: "web", ci: "" });
  assert.match((await runCli(api, ["show", "web"])).stdout, /^label +ci\nlabel +team=web\n/m);
});

test("set sets labels, and removes those with a - behind", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "paused", { labels: { old: "1", kept: "yes" } });
  const { code, stdout } = await runCli(api, ["set", "web", "--label", "team=web", "--label", "old-"]);
  assert.equal(code, 0);
  assert.match(stdout, /, labels kept=yes team=web\n$/);
  assert.deepEqual(api.requests.at(-1)?.body, { labels: { team: "web", old: null } });
});

test("ls and ps list all VMs, or those that the filters choose, with the flags that Docker's users type", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running", { labels: { team: "web" } });
  api.addVm("old-web", "stopped", { labels: { team: "web" } });
  api.addVm("db", "running");
  const names = async (...words: string[]) => (await runCli(api, words)).stdout.split("\n").filter(Boolean);
  assert.deepEqual(await names("ls", "-q"), ["web", "old-web", "db"]);
  assert.deepEqual(await names("ps", "-aq"), ["web", "old-web", "db"]);
  assert.deepEqual(await names("ls", "--all", "--quiet", "--filter", "label=team"), ["web", "old-web"]);
  assert.deepEqual(await names("ps", "-q", "-f", "label=team=web", "-f", "status=running"), ["web"]);
  const json = JSON.parse((await runCli(api, ["ls", "--json", "--filter", "name=old"])).stdout) as Vm[];
  assert.deepEqual(
    json.map(({ name, labels }) => [name, labels]),
    [["old-web", { team: "web" }]],
  );
  assert.match((await runCli(api, ["ls", "--filter", "label=none"])).stderr, /No VM is like that/);
});

test("snapshots are labelled, and ls lists those that the filters choose", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  api.addVm("db", "running");
  await runCli(api, ["snapshot", "create", "web", "before", "--label", "nightly", "-l", "kept=yes"]);
  await runCli(api, ["snapshot", "create", "db", "before-db", "--label", "nightly"]);
  await runCli(api, ["snapshot", "create", "web", "after"]);
  assert.deepEqual(
    api.requests.filter(({ method }) => method === "POST").map(({ body }) => body),
    [
      { vm: "web", name: "before", labels: { nightly: "", kept: "yes" } },
      { vm: "db", name: "before-db", labels: { nightly: "" } },
      { vm: "web", name: "after" },
    ],
  );
  const names = async (...words: string[]) => (await runCli(api, words)).stdout.split("\n").filter(Boolean);
  assert.deepEqual(await names("snapshot", "ls", "-q"), ["after", "before-db", "before"]);
  assert.deepEqual(await names("snapshots", "-q", "-f", "label=nightly"), ["before-db", "before"]);
  assert.deepEqual(await names("snapshots", "-q", "-f", "vm=web", "-f", "label=kept=yes"), ["before"]);
  assert.match(
    (await runCli(api, ["snapshot", "show", "before"])).stdout,
    /^label +kept=yes\nlabel +nightly\n/m,
  );
  assert.match((await runCli(api, ["snapshots", "-f", "name=none"])).stderr, /No snapshot is like that/);
});

test("a label or a filter that is not one is a usage error before hearthd hears of it", async () => {
  await using api = await FakeApi.start();
  for (const words of [
    ["create", "--label", "a b=x", "debian"],
    ["create", "--label", "k=1", "--label", "k=2", "debian"],
    ["set", "web", "--label", "-"],
    ["ls", "--filter", "team=web"],
    ["ls", "--filter", "state=up"],
    ["snapshot", "ls", "--filter", "state=running"],
    ["snapshot", "create", "--label", "a b=x", "web"],
  ]) {
    const { code, stderr } = await runCli(api, words);
    assert.equal(code, 2, words.join(" "));
    assert.match(stderr, /^error: .*\nhint: /);
  }
  assert.deepEqual(api.requests, []);
});
