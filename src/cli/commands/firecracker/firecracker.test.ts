import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

test("firecracker install prints the version, and says where it is", async () => {
  await using api = await FakeApi.start();
  const newest = await runCli(api, ["firecracker", "install"]);
  assert.deepEqual(newest, {
    code: 0,
    stdout: "1.12.1\n",
    stderr: "Installed: /cache/firecracker/1.12.1/firecracker\n",
  });
  const named = await runCli(api, ["firecracker", "install", "--version", "1.13.0", "--json"]);
  assert.equal(JSON.parse(named.stdout).version, "1.13.0");
});

test("firecracker ls marks the one that is used, and gives the reason for one that is refused", async () => {
  await using api = await FakeApi.start();
  const { code, stdout, stderr } = await runCli(api, ["firecracker", "ls"]);
  assert.equal(code, 0);
  assert.match(stdout, /^\*  1\.12\.1 +installed +\/cache\/firecracker\/1\.12\.1\/firecracker$/m);
  assert.match(stdout, /^ +refused +path +\/usr\/bin\/firecracker$/m);
  assert.match(stderr, /too old: 1\.4\.0\. Install one that is verified: hearth firecracker install/);
  assert.equal(JSON.parse((await runCli(api, ["firecracker", "ls", "--json"])).stdout).length, 2);
});
