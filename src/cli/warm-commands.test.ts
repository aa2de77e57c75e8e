import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

test("warm build takes the shape of VMs, and prints the template's id", async () => {
  await using api = await FakeApi.start();
  const words = ["warm", "build", "--cpus", "1", "--memory", "512M", "--network", "user", "--no-jail"];
  const { code, stdout, stderr } = await runCli(api, [...words, "debian"]);
  assert.deepEqual([code, stdout], [0, "sn-aaaaaaaaaaaa\n"]);
  assert.match(stderr, /120M on disk\. Next: hearth run debian\n$/);
  assert.deepEqual(api.requests.at(-1)?.body, {
    image: "debian",
    cpus: 1,
    memoryBytes: 512 * 2 ** 20,
    network: "user",
    isolation: { jail: false },
  });
  assert.equal(JSON.parse((await runCli(api, ["warm", "build", "--json", "debian"])).stdout).cpus, 2);
});

test("warm ls is a table of 80 columns, ids with -q, and an array with --json", async () => {
  await using api = await FakeApi.start();
  assert.match((await runCli(api, ["warm", "ls"])).stderr, /hearth warm build debian/);
  await runCli(api, ["warm", "build", "--memory", "512M", "debian-systemd:bookworm"]);
  const { stdout } = await runCli(api, ["warm", "list"], { terminalColumns: 80 });
  const [head = "", first = ""] = stdout.split("\n");
  assert.match(head, /^TEMPLATE +IMAGE +CPUS +MEMORY +DRIVER +SIZE +IDLE +VMS$/);
  assert.match(first, /^sn-aaaaaaaaaaaa +debian-systemd:\S+ +2 +512M +qemu +120M +1m +0$/);
  assert.ok(first.length <= 80, first);
  assert.equal((await runCli(api, ["warm", "ls", "-q"])).stdout, "sn-aaaaaaaaaaaa\n");
  assert.equal(JSON.parse((await runCli(api, ["warm", "ls", "--json"])).stdout).length, 1);
});

test("warm rm and prune remove what no VM uses, and say what stays", async () => {
  await using api = await FakeApi.start();
  for (const cpus of ["1", "2", "3"]) await runCli(api, ["warm", "build", "--cpus", cpus, "debian"]);
  api.snapshots.use("sn-aaaaaaaaaaaa", "web");
  const removed = await runCli(api, ["warm", "rm", "sn-aaaaaaaaaaaa", "sn-aaaaaaaaaaab"]);
  assert.deepEqual([removed.code, removed.stdout], [1, "sn-aaaaaaaaaaab\n"]);
  assert.match(removed.stderr, /is used by web/);
  assert.deepEqual(await runCli(api, ["warm", "prune"]), {
    code: 0,
    stdout: "1\n",
    stderr: "One template is removed.\n",
  });
  assert.deepEqual(JSON.parse((await runCli(api, ["warm", "prune", "--json"])).stdout), { removed: 0 });
  assert.match(
    (await runCli(api, ["warm", "rm", "web"])).stderr,
    /^error: "web" is not a template.s id\.\nhint: `hearth warm ls`/,
  );
});

test("the completion offers snapshots, templates and VMs, each where they belong", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  await runCli(api, ["snapshot", "create", "web", "before"]);
  await runCli(api, ["warm", "build", "debian"]);
  const offers = async (...words: string[]) =>
    (await runCli(api, ["__complete", "--", ...words])).stdout.trim().split("\n");
  assert.deepEqual(await offers("snapshot", ""), [
    "create",
    "ls",
    "show",
    "restore",
    "export",
    "import",
    "rm",
  ]);
  assert.deepEqual(await offers("warm", ""), ["ls", "build", "rm", "prune"]);
  for (const verb of ["show", "restore", "export", "rm"])
    assert.deepEqual(await offers("snapshot", verb, ""), ["before"]);
  for (const words of [["snapshot", "create"], ["fork"], ["suspend"], ["resume"]])
    assert.deepEqual(await offers(...words, ""), ["web"]);
  assert.deepEqual(await offers("snapshot", "create", "web", ""), [""]);
  assert.deepEqual(await offers("snapshot", "export", "before", ""), [":path"]);
  assert.deepEqual(await offers("snapshot", "import", ""), [":path"]);
  assert.deepEqual(await offers("warm", "rm", ""), ["sn-aaaaaaaaaaab"]);
  assert.deepEqual(await offers("create", "--snapshot", ""), ["before"]);
  assert.deepEqual(await offers("start", "--fr"), ["--fresh"]);
});
