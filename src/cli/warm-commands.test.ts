import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const WARM = { config: "warm.enabled = true" };

test("warm build takes the shape of VMs, and prints the template's id", async (t) => {
  const served = await serveDaemon(t, WARM);
  served.host.machine.snapshotBytes = 120 * 2 ** 20;
  const words = ["warm", "build", "--cpus", "1", "--memory", "512M", "--network", "user", "--no-jail"];
  const { code, stdout, stderr } = await runCli(served, [...words, "debian"]);
  const [template] = served.daemon.warm.list();
  assert.deepEqual([code, stdout], [0, `${template?.id}\n`]);
  assert.match(stderr, /120M on disk\. Next: hearth run debian\n$/);
  const { cpus, memoryBytes, network, isolation } = template?.spec ?? {};
  assert.deepEqual([cpus, memoryBytes, network, isolation?.jail], [1, 512 * 2 ** 20, "user", false]);
  assert.equal(JSON.parse((await runCli(served, ["warm", "build", "--json", "debian"])).stdout).cpus, 2);
});

test("warm ls is a table of 80 columns, ids with -q, and an array with --json", async (t) => {
  const served = await serveDaemon(t, WARM);
  assert.match((await runCli(served, ["warm", "ls"])).stderr, /hearth warm build debian/);
  served.host.machine.snapshotBytes = 120 * 2 ** 20;
  await runCli(served, ["warm", "build", "--memory", "512M", "debian-systemd:bookworm"]);
  const [template] = served.daemon.warm.list();
  const { stdout } = await runCli(served, ["warm", "list"], { terminalColumns: 80 });
  const [head = "", first = ""] = stdout.split("\n");
  assert.match(head, /^TEMPLATE +IMAGE +CPUS +MEMORY +DRIVER +SIZE +IDLE +VMS$/);
  assert.match(first, /^sn-[a-z2-7]{12} +debian-systemd:\S+ +2 +512M +fake +120M +0s +0$/);
  assert.ok(first.length <= 80, first);
  assert.equal((await runCli(served, ["warm", "ls", "-q"])).stdout, `${template?.id}\n`);
  assert.equal(JSON.parse((await runCli(served, ["warm", "ls", "--json"])).stdout).length, 1);
});

test("warm rm and prune remove what no VM uses, and say what stays", async (t) => {
  const served = await serveDaemon(t, WARM);
  const ids: string[] = [];
  for (const cpus of ["1", "2", "3"])
    ids.push((await runCli(served, ["warm", "build", "--cpus", cpus, "debian"])).stdout.trim());
  const [used = "", unused = ""] = ids;
  await served.run("web", { image: "debian", cpus: 1 }); // Its memory is that of the template.
  const removed = await runCli(served, ["warm", "rm", used, unused]);
  assert.deepEqual([removed.code, removed.stdout], [1, `${unused}\n`]);
  assert.match(removed.stderr, /is used by web/);
  assert.deepEqual(await runCli(served, ["warm", "prune"]), {
    code: 0,
    stdout: "1\n",
    stderr: "One template is removed.\n",
  });
  assert.deepEqual(JSON.parse((await runCli(served, ["warm", "prune", "--json"])).stdout), { removed: 0 });
  assert.match(
    (await runCli(served, ["warm", "rm", "web"])).stderr,
    /^error: "web" is not a template.s id\.\nhint: `hearth warm ls`/,
  );
});

test("the completion offers snapshots, templates and VMs, each where they belong", async (t) => {
  const served = await serveDaemon(t, WARM);
  await served.run("web");
  await runCli(served, ["snapshot", "create", "web", "before"]);
  const template = (await runCli(served, ["warm", "build", "debian"])).stdout.trim();
  const offers = async (...words: string[]) =>
    (await runCli(served, ["__complete", "--", ...words])).stdout.trim().split("\n");
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
  assert.deepEqual(await offers("warm", "rm", ""), [template]);
  assert.deepEqual(await offers("create", "--snapshot", ""), ["before"]);
  assert.deepEqual(await offers("start", "--fr"), ["--fresh"]);
});
