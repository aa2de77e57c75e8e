import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

test("system recover lists lost+found, and says when there is nothing", async () => {
  await using api = await FakeApi.start();
  assert.match((await runCli(api, ["system", "recover"])).stderr, /nothing in lost\+found/);
  const path = "/s/lost+found/2026-11-27/vms/vm-aaaaaaaaaaaa";
  api.lostFound = [{ kind: "vms", name: "vm-aaaaaaaaaaaa", day: "2026-11-27", path, hasDisk: true }];
  const { stdout } = await runCli(api, ["system", "recover"]);
  assert.match(stdout, /^NAME +KIND +FOUND +DISK +PATH\nvm-aaaaaaaaaaaa +vms +2026-11-27 +yes +\/s\/lost/);
  const json = await runCli(api, ["system", "recover", "--json"]);
  assert.deepEqual(JSON.parse(json.stdout), api.lostFound);
});

test("system recover makes a VM of a disk, and wants the disk, a name and an image for it", async () => {
  await using api = await FakeApi.start();
  const words = ["system", "recover", "--vm", "vm-aaaaaaaaaaaa", "--name", "web", "debian"];
  const { code, stdout, stderr } = await runCli(api, words);
  assert.deepEqual([code, stdout], [0, "web\n"]);
  assert.match(stderr, /Next: hearth start web/);
  const sent = api.requests.find(({ method }) => method === "POST");
  assert.deepEqual(sent, {
    method: "POST",
    path: "/v1/lost-found/vm-aaaaaaaaaaaa/recover",
    body: { name: "web", image: "debian" },
  });
  const half = await runCli(api, ["system", "recover", "--vm", "vm-aaaaaaaaaaaa"]);
  assert.equal(half.code, 2);
  assert.match(half.stderr, /--vm, --name and IMAGE together/);
});
