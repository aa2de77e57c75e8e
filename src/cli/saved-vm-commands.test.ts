import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { letWork, writtenOn } from "#testing/fake-guest.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

/** The size of a snapshot's files. */
const SAVED_BYTES = 120 * 2 ** 20;

test("snapshot create uses the name that is given, or one that hearthd generates", async (t) => {
  const served = await serveDaemon(t);
  served.host.machine.snapshotBytes = SAVED_BYTES;
  await served.run("web");
  const { code, stdout, stderr } = await runCli(served, ["snapshot", "create", "web", "before"]);
  assert.deepEqual([code, stdout], [0, "before\n"]);
  assert.match(stderr, /Disk and memory: 120M on disk\. Next: hearth create --snapshot before\n$/);
  const second = await runCli(served, ["snapshot", "create", "--disk-only", "--quiet", "web"]);
  assert.deepEqual([second.code, second.stderr], [0, ""]);
  assert.match(second.stdout, /^web-\d{8}-\d{6}\n$/);
  assert.deepEqual(served.host.snapshots.get(second.stdout.trim()).parts, [], "no memory");
  const shown = JSON.parse((await runCli(served, ["snapshot", "create", "--json", "web", "third"])).stdout);
  assert.deepEqual([shown.name, shown.hasMemory], ["third", true]);
});

test("snapshot ls, show and rm print names, a table of 80 columns, JSON, and errors for missing ones", async (t) => {
  const served = await serveDaemon(t);
  assert.match((await runCli(served, ["snapshot", "ls"])).stderr, /hearth snapshot create VM/);
  assert.equal((await runCli(served, ["snapshot", "ls", "--json"])).stdout, "[]\n");
  served.host.machine.snapshotBytes = SAVED_BYTES;
  await served.run("web-with-a-long-name", { image: "debian:trixie" });
  await served.runAndStop("off");
  await runCli(served, ["snapshot", "create", "web-with-a-long-name"]);
  await runCli(served, ["snapshot", "create", "off", "saved"]);
  const { stdout } = await runCli(served, ["snapshots"], { terminalColumns: 80 });
  const [head = "", first = "", second = ""] = stdout.split("\n");
  assert.match(head, /^SNAPSHOT +VM +IMAGE +MEMORY +SIZE +CREATED +USED BY$/);
  assert.match(first, /^saved +off +debian +- +120M +0s ago +-$/);
  assert.match(second, /^web-w\S*…\S* +web-\S+ +debian:\S+ +2\.0G +120M +0s ago +-$/);
  assert.ok(second.length <= 80, second);
  assert.equal((await runCli(served, ["snapshot", "ls", "-q"])).stdout.split("\n")[0], "saved");
  const shown = (await runCli(served, ["snapshot", "show", "saved"])).stdout;
  assert.match(shown, /^snapshot +saved$/m);
  assert.match(shown, /^contains +disk$/m);
  assert.equal(
    JSON.parse((await runCli(served, ["snapshot", "show", "--json", "saved"])).stdout).hasMemory,
    false,
  );
  const removed = await runCli(served, ["snapshot", "rm", "saved", "gone", "saved"]);
  assert.deepEqual([removed.code, removed.stdout], [1, "saved\n"]);
  assert.match(removed.stderr, /There is no snapshot "gone"\.\nhint: `hearth snapshot ls`/);
});

test("snapshot restore restores the VM, and names the next command", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  await runCli(served, ["snapshot", "create", "web", "hot"]);
  await runCli(served, ["snapshot", "create", "web", "--disk-only", "cold"]);
  await runCli(served, ["stop", "web"]);
  const back = await runCli(served, ["snapshot", "restore", "hot", "--quiet"]);
  assert.deepEqual(back, { code: 0, stdout: "web\n", stderr: "" });
  assert.equal(served.phase("web"), "running");
  assert.match((await runCli(served, ["snapshot", "restore", "cold"])).stderr, /Next: hearth shell web\n$/);
  await runCli(served, ["stop", "web"]);
  assert.match((await runCli(served, ["snapshot", "restore", "cold"])).stderr, /Next: hearth start web\n$/);
  assert.equal(
    JSON.parse((await runCli(served, ["snapshot", "restore", "hot", "--json"])).stdout).phase,
    "running",
  );
});

test("a VM is created from one image or from one snapshot, whose settings it gets", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  await runCli(served, ["snapshot", "create", "web", "before"]);
  const words = ["create", "--snapshot", "before", "--name", "two", "--cold", "-e", "A=1", "--no-jail"];
  assert.equal((await runCli(served, words)).stdout, "two\n");
  const { spec } = served.vm("two") ?? {};
  assert.deepEqual([spec?.cold, spec?.isolation.jail, spec?.env], [true, false, { A: "1" }]);
  assert.equal(served.phase("two"), "running");
  const asked = served.requests;
  for (const [wrong, said] of [
    [[], /IMAGE is missing\.\nhint: .*--snapshot NAME/],
    [["--snapshot", "before", "debian"], /IMAGE and --snapshot cannot be given/],
    [["--snapshot", "Before"], /not a snapshot name/],
    [["--snapshot", "before", "--memory", "1G"], /--memory cannot be given with --snapshot\.\nhint: /],
    [["--snapshot", "before", "--boot-args", "quiet"], /--boot-args cannot/],
    [["--snapshot", "before", "--nested"], /--nested cannot/],
    [["--snapshot", "before", "--volume", "data:/data"], /--volume cannot/],
  ] as const) {
    const { code, stderr } = await runCli(served, ["create", ...wrong]);
    assert.equal(code, 2, wrong.join(" "));
    assert.match(stderr, said);
  }
  assert.equal(served.requests, asked);
  assert.match(
    (await runCli(served, ["create", "--snapshot", "gone"])).stderr,
    /There is no snapshot "gone"/,
  );
});

test("--cold, --no-warm and --idle-timeout are passed to hearthd by create and run", async (t) => {
  const served = await serveDaemon(t);
  const flags = ["--cold", "--no-warm", "--idle-timeout", "10m"];
  await runCli(served, ["create", "--no-start", "--name", "a", ...flags, "debian"]);
  await runCli(served, ["run", "--name", "b", ...flags, "debian", "--", "echo"]);
  for (const name of ["a", "b"]) {
    const { cold, noWarm, idleTimeoutMs } = served.vm(name)?.spec ?? {};
    assert.deepEqual([cold, noWarm, idleTimeoutMs], [true, true, 600_000], name);
  }
  assert.match((await runCli(served, ["show", "a"])).stdout, /^idle timeout +10m$/m);
  assert.equal((await runCli(served, ["create", "--idle-timeout", "10", "debian"])).code, 2);
  assert.equal((await runCli(served, ["create", "--idle-timeout", "1ms", "debian"])).code, 2);
});

test("fork prints the names of the copies, one a line", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  assert.deepEqual(await runCli(served, ["fork", "web", "--quiet"]), {
    code: 0,
    stdout: "web-1\n",
    stderr: "",
  });
  const three = await runCli(served, ["fork", "web", "-n", "3", "--name", "worker", "--rm"]);
  assert.equal(three.stdout, "worker-1\nworker-2\nworker-3\n");
  assert.match(three.stderr, /Next: hearth shell worker-1\n$/);
  assert.equal(served.vm("worker-3")?.spec.autoRemove, true);
  assert.equal(served.vm("web-1")?.spec.autoRemove, false);
  const shown = JSON.parse((await runCli(served, ["fork", "web", "--name", "one", "--json"])).stdout);
  assert.deepEqual([shown.length, shown[0].name, shown[0].phase], [1, "one", "running"]);
});

test("an invalid number of copies, name or flag is refused before hearthd is contacted", async (t) => {
  const served = await serveDaemon(t);
  for (const words of [
    ["fork"],
    ["fork", "Web"],
    ["fork", "web", "-n", "0"],
    ["fork", "web", "-n", "101"],
    ["fork", "web", "-n", "1.5"],
    ["fork", "web", "--name", "-x"],
    ["fork", "web", "db"],
    ["suspend"],
    ["suspend", "a/b"],
    ["snapshot", "create"],
    ["snapshot", "create", "web", "A b"],
    ["snapshot", "create", "web", "--disk-olny"],
    ["snapshot", "show", "../etc"],
    ["snapshot", "rm", "a", "B"],
    ["snapshot", "restore"],
    ["snapshot"],
    ["template", "build", "--name", "web", "debian"],
    ["template", "build", "--memory", "1", "debian"],
    ["template", "build"],
    ["template", "rm", "debian"],
    ["start", "--frsh", "web"],
  ]) {
    const { code, stderr } = await runCli(served, words);
    assert.equal(code, 2, words.join(" "));
    assert.match(stderr, /^error: .*\nhint: /, words.join(" "));
  }
  assert.equal(served.requests, 0);
});

test("a suspended VM is shown as suspended, skipped by stop and prune, and can be resumed", async (t) => {
  const served = await serveDaemon(t);
  await served.run("db");
  await runCli(served, ["snapshot", "create", "db", "before"]);
  await served.run("web", { snapshot: "before" });
  await runCli(served, ["rm", "-f", "db"]);
  const { id } = served.host.snapshots.get("before");
  assert.match((await runCli(served, ["show", "web"])).stdout, new RegExp(`^restored from +${id}$`, "m"));
  assert.equal((await runCli(served, ["suspend", "web", "--quiet"])).stdout, "web\n");
  const again = await runCli(served, ["suspend", "web"]);
  assert.deepEqual(again, { code: 0, stdout: "", stderr: "web is already suspended.\n" });
  assert.match((await runCli(served, ["ls"], { terminalColumns: 80 })).stdout, /^web +\S+ +suspended /m);
  const stopped = await runCli(served, ["stop", "web"]);
  assert.equal(stopped.code, 0);
  assert.match(stopped.stderr, /web is suspended, .*`hearth kill web`/);
  assert.match((await runCli(served, ["prune", "-f"])).stderr, /nothing to remove/);
  assert.equal(served.phase("web"), "suspended");
  assert.equal((await runCli(served, ["resume", "web", "--quiet"])).stdout, "web\n");
  assert.deepEqual(await runCli(served, ["wake", "web"]), {
    code: 0,
    stdout: "",
    stderr: "web is already running.\n",
  });
  assert.equal(JSON.parse((await runCli(served, ["suspend", "--json", "web"])).stdout).phase, "suspended");
});

test("start --fresh is passed to hearthd, and fails for a running VM", async (t) => {
  const served = await serveDaemon(t);
  letWork(await served.run("web"));
  await runCli(served, ["stop", "web"]);
  assert.equal((await runCli(served, ["start", "--fresh", "web", "--quiet"])).stdout, "web\n");
  assert.equal(writtenOn(served.host.machine.vmm("web")), 0);
  const running = await runCli(served, ["start", "--fresh", "web"]);
  assert.equal(running.code, 1);
  assert.match(running.stderr, /hint: Stop it first: `hearth stop web`/);
});

const WARM = { config: "warm.enabled = true" };

test("template build takes the flags of VMs, and prints the template's id", async (t) => {
  const served = await serveDaemon(t, WARM);
  served.host.machine.snapshotBytes = 120 * 2 ** 20;
  const words = ["template", "build", "--cpus", "1", "--memory", "512M", "--network", "nat", "--no-cgroup"];
  const { code, stdout, stderr } = await runCli(served, [...words, "debian"]);
  const [template] = served.daemon.templates.list();
  assert.deepEqual([code, stdout], [0, `${template?.id}\n`]);
  assert.match(stderr, /120M on disk\. Next: hearth run debian\n$/);
  const { cpus, memoryBytes, network, isolation } = template?.spec ?? {};
  assert.deepEqual([cpus, memoryBytes, network, isolation?.cgroup], [1, 512 * 2 ** 20, "nat", false]);
  assert.equal(JSON.parse((await runCli(served, ["template", "build", "--json", "debian"])).stdout).cpus, 2);
});

test("template ls is a table of 80 columns, ids with -q, and an array with --json", async (t) => {
  const served = await serveDaemon(t, WARM);
  assert.match((await runCli(served, ["template", "ls"])).stderr, /hearth template build debian/);
  served.host.machine.snapshotBytes = 120 * 2 ** 20;
  await runCli(served, ["template", "build", "--memory", "512M", "debian-systemd:bookworm"]);
  const [template] = served.daemon.templates.list();
  const { stdout } = await runCli(served, ["template", "list"], { terminalColumns: 80 });
  const [head = "", first = ""] = stdout.split("\n");
  assert.match(head, /^TEMPLATE +IMAGE +CPUS +MEMORY +DRIVER +SIZE +IDLE +VMS$/);
  assert.match(first, /^sn-[a-z2-7]{12} +debian-systemd:\S+ +2 +512M +fake +120M +0s +0$/);
  assert.ok(first.length <= 80, first);
  assert.equal((await runCli(served, ["template", "ls", "-q"])).stdout, `${template?.id}\n`);
  assert.equal(JSON.parse((await runCli(served, ["template", "ls", "--json"])).stdout).length, 1);
});

test("template rm and prune delete the templates that no VM uses, and report the others", async (t) => {
  const served = await serveDaemon(t, WARM);
  const ids: string[] = [];
  for (const cpus of ["1", "2", "3"])
    ids.push((await runCli(served, ["template", "build", "--cpus", cpus, "debian"])).stdout.trim());
  const [used = "", unused = ""] = ids;
  await served.run("web", { image: "debian", cpus: 1 }); // The VM maps the template's memory.
  const removed = await runCli(served, ["template", "rm", used, unused]);
  assert.deepEqual([removed.code, removed.stdout], [1, `${unused}\n`]);
  assert.match(removed.stderr, /is used by web/);
  assert.deepEqual(await runCli(served, ["template", "prune"]), {
    code: 0,
    stdout: "1\n",
    stderr: "Removed 1 template.\n",
  });
  assert.deepEqual(JSON.parse((await runCli(served, ["template", "prune", "--json"])).stdout), {
    removed: 0,
  });
  assert.match(
    (await runCli(served, ["template", "rm", "web"])).stderr,
    /^error: "web" is not a template ID\.\nhint: `hearth template ls`/,
  );
});

test("`hearth warm`, the earlier name of `hearth template`, still works", async (t) => {
  const served = await serveDaemon(t, WARM);
  const id = (await runCli(served, ["warm", "build", "debian"])).stdout.trim();
  assert.equal((await runCli(served, ["warm", "list", "-q"])).stdout, `${id}\n`);
  assert.equal((await runCli(served, ["warm", "rm", id, "--quiet"])).stdout, `${id}\n`);
  assert.equal((await runCli(served, ["--json", "warm", "prune"])).stdout, '{\n  "removed": 0\n}\n');
  for (const words of [[], ["build"]]) {
    const [now, before] = await Promise.all(
      ["template", "warm"].map((noun) => runCli(served, ["help", noun, ...words])),
    );
    assert.deepEqual(before, now);
    assert.match(now?.stdout ?? "", /^Usage: hearth template /);
  }
  assert.match((await runCli(served, ["warm", "biuld", "debian"])).stderr, /`hearth template build`/);
  assert.equal((await runCli(served, ["__complete", "--", "warm", "pr"])).stdout, "prune\n");
});

test("the completion offers snapshots, templates and VMs, each where it is valid", async (t) => {
  const served = await serveDaemon(t, WARM);
  await served.run("web");
  await runCli(served, ["snapshot", "create", "web", "before"]);
  const template = (await runCli(served, ["template", "build", "debian"])).stdout.trim();
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
  assert.deepEqual(await offers("template", ""), ["ls", "build", "rm", "prune"]);
  for (const verb of ["show", "restore", "export", "rm"])
    assert.deepEqual(await offers("snapshot", verb, ""), ["before"]);
  for (const words of [["snapshot", "create"], ["fork"], ["suspend"], ["resume"]])
    assert.deepEqual(await offers(...words, ""), ["web"]);
  assert.deepEqual(await offers("snapshot", "create", "web", ""), [""]);
  assert.deepEqual(await offers("snapshot", "export", "before", ""), [":path"]);
  assert.deepEqual(await offers("snapshot", "import", ""), [":path"]);
  assert.deepEqual(await offers("template", "rm", ""), [template]);
  assert.deepEqual(await offers("create", "--snapshot", ""), ["before"]);
  assert.deepEqual(await offers("start", "--fr"), ["--fresh"]);
});
