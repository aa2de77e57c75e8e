import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

const posts = (api: FakeApi) =>
  api.requests.filter(({ method }) => method === "POST").map(({ body }) => body);

test("snapshot create saves under the name that is given, or under one that hearthd makes", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const { code, stdout, stderr } = await runCli(api, ["snapshot", "create", "web", "before"]);
  assert.deepEqual([code, stdout], [0, "before\n"]);
  assert.match(stderr, /Disk and memory: 120M on disk\. Next: hearth create --snapshot before\n$/);
  const second = await runCli(api, ["snapshot", "create", "--disk-only", "--quiet", "web"]);
  assert.deepEqual(second, { code: 0, stdout: "web-20260102-030405\n", stderr: "" });
  assert.deepEqual(posts(api), [
    { vm: "web", name: "before" },
    { vm: "web", diskOnly: true },
  ]);
  const shown = JSON.parse((await runCli(api, ["snapshot", "create", "--json", "web", "third"])).stdout);
  assert.deepEqual([shown.name, shown.hasMemory], ["third", true]);
});

test("snapshot ls, show and rm print names, a table of 80 columns, JSON, and what is missing", async () => {
  await using api = await FakeApi.start();
  assert.match((await runCli(api, ["snapshot", "ls"])).stderr, /hearth snapshot create VM/);
  assert.equal((await runCli(api, ["snapshot", "ls", "--json"])).stdout, "[]\n");
  api.addVm("web-with-a-long-name", "running");
  api.addVm("off", "stopped");
  await runCli(api, ["snapshot", "create", "web-with-a-long-name"]);
  await runCli(api, ["snapshot", "create", "off", "saved"]);
  const { stdout } = await runCli(api, ["snapshots"], { terminalColumns: 80 });
  const [head = "", first = "", second = ""] = stdout.split("\n");
  assert.match(head, /^SNAPSHOT +VM +IMAGE +MEMORY +SIZE +CREATED +USED BY$/);
  assert.match(first, /^saved +off +debian:\S+ +- +120M +1h1m ago +-$/);
  assert.match(second, /^web-w\S*…\S* +web-\S+ +\S+ +2\.0G +120M +1h1m ago +-$/);
  assert.ok(second.length <= 80, second);
  assert.equal((await runCli(api, ["snapshot", "ls", "-q"])).stdout.split("\n")[0], "saved");
  const shown = (await runCli(api, ["snapshot", "show", "saved"])).stdout;
  assert.match(shown, /^snapshot +saved$/m);
  assert.match(shown, /^holds +the disk alone$/m);
  assert.equal(
    JSON.parse((await runCli(api, ["snapshot", "show", "--json", "saved"])).stdout).hasMemory,
    false,
  );
  const removed = await runCli(api, ["snapshot", "rm", "saved", "gone", "saved"]);
  assert.deepEqual([removed.code, removed.stdout], [1, "saved\n"]);
  assert.match(removed.stderr, /There is no snapshot "gone"\.\nhint: `hearth snapshot ls`/);
});

test("snapshot restore puts the VM back, and names the next command", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  await runCli(api, ["snapshot", "create", "web", "hot"]);
  await runCli(api, ["snapshot", "create", "web", "--disk-only", "cold"]);
  await runCli(api, ["stop", "web"]);
  const back = await runCli(api, ["snapshot", "restore", "hot", "--quiet"]);
  assert.deepEqual(back, { code: 0, stdout: "web\n", stderr: "" });
  assert.equal(api.vms.get("web")?.phase, "running");
  assert.match((await runCli(api, ["snapshot", "restore", "cold"])).stderr, /Next: hearth start web\n$/);
  assert.equal(
    JSON.parse((await runCli(api, ["snapshot", "restore", "hot", "--json"])).stdout).phase,
    "running",
  );
});

test("a VM is created from one image or from one snapshot, whose shape it has", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  await runCli(api, ["snapshot", "create", "web", "before"]);
  const words = ["create", "--snapshot", "before", "--name", "two", "--cold", "-e", "A=1", "--no-jail"];
  assert.equal((await runCli(api, words)).stdout, "two\n");
  assert.deepEqual(posts(api).at(-2), {
    snapshot: "before",
    name: "two",
    cold: true,
    isolation: { jail: false },
    env: { A: "1" },
  });
  const asked = api.requests.length;
  for (const [wrong, said] of [
    [[], /IMAGE is missing\.\nhint: .*--snapshot NAME/],
    [["--snapshot", "before", "debian"], /an image and a snapshot are given/],
    [["--snapshot", "Before"], /not a snapshot name/],
    [["--snapshot", "before", "--memory", "1G"], /--memory cannot be given with --snapshot\.\nhint: /],
    [["--snapshot", "before", "--boot-args", "quiet"], /--boot-args cannot/],
    [["--snapshot", "before", "--nested"], /--nested cannot/],
    [["--snapshot", "before", "--volume", "data:/data"], /--volume cannot/],
  ] as const) {
    const { code, stderr } = await runCli(api, ["create", ...wrong]);
    assert.equal(code, 2, wrong.join(" "));
    assert.match(stderr, said);
  }
  assert.equal(api.requests.length, asked);
  assert.match((await runCli(api, ["create", "--snapshot", "gone"])).stderr, /There is no snapshot "gone"/);
});

test("--cold, --no-warm and --idle-timeout go to hearthd, from create and from run", async () => {
  await using api = await FakeApi.start();
  const flags = ["--cold", "--no-warm", "--idle-timeout", "10m"];
  await runCli(api, ["create", "--no-start", "--name", "a", ...flags, "debian"]);
  await runCli(api, ["run", "--name", "b", ...flags, "debian", "--", "echo"]);
  const chosen = { cold: true, noWarm: true, idleTimeoutMs: 600_000 };
  assert.deepEqual(posts(api)[0], { image: "debian", name: "a", ...chosen });
  assert.deepEqual(api.runs[0]?.vm, { image: "debian", name: "b", ...chosen });
  assert.match((await runCli(api, ["show", "a"])).stdout, /^idle timeout +10m$/m);
  assert.equal((await runCli(api, ["create", "--idle-timeout", "10", "debian"])).code, 2);
  assert.equal((await runCli(api, ["create", "--idle-timeout", "1ms", "debian"])).code, 2);
});

test("fork prints the names of the copies, one a line", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  assert.deepEqual(await runCli(api, ["fork", "web", "--quiet"]), { code: 0, stdout: "web-1\n", stderr: "" });
  const three = await runCli(api, ["fork", "web", "-n", "3", "--name", "worker", "--rm"]);
  assert.equal(three.stdout, "worker-1\nworker-2\nworker-3\n");
  assert.match(three.stderr, /Next: hearth shell worker-1\n$/);
  assert.deepEqual(posts(api), [{}, { count: 3, name: "worker", autoRemove: true }]);
  const shown = JSON.parse((await runCli(api, ["fork", "web", "--name", "one", "--json"])).stdout);
  assert.deepEqual([shown.length, shown[0].name, shown[0].phase], [1, "one", "running"]);
});

test("a number of copies, a name or a flag that is wrong is refused before hearthd hears of it", async () => {
  await using api = await FakeApi.start();
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
    ["warm", "build", "--name", "web", "debian"],
    ["warm", "build", "--memory", "1", "debian"],
    ["warm", "build"],
    ["warm", "rm", "debian"],
    ["start", "--frsh", "web"],
  ]) {
    const { code, stderr } = await runCli(api, words);
    assert.equal(code, 2, words.join(" "));
    assert.match(stderr, /^error: .*\nhint: /, words.join(" "));
  }
  assert.deepEqual(api.requests, []);
});

test("a VM that is suspended is shown as such, is left alone by stop and prune, and wakes", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running", { snapshot: "sn-aaaaaaaaaaaa" });
  assert.match((await runCli(api, ["show", "web"])).stdout, /^restored from +sn-aaaaaaaaaaaa$/m);
  assert.equal((await runCli(api, ["suspend", "web", "--quiet"])).stdout, "web\n");
  const again = await runCli(api, ["suspend", "web"]);
  assert.deepEqual(again, { code: 0, stdout: "", stderr: "web is suspended already.\n" });
  assert.match((await runCli(api, ["ls"], { terminalColumns: 80 })).stdout, /^web +\S+ +suspended /m);
  const stopped = await runCli(api, ["stop", "web"]);
  assert.equal(stopped.code, 0);
  assert.match(stopped.stderr, /web is suspended, .*`hearth kill web`/);
  assert.match((await runCli(api, ["prune", "-f"])).stderr, /nothing to remove/);
  assert.equal(api.vms.get("web")?.phase, "suspended");
  assert.equal((await runCli(api, ["resume", "web", "--quiet"])).stdout, "web\n");
  assert.deepEqual(await runCli(api, ["wake", "web"]), {
    code: 0,
    stdout: "",
    stderr: "web runs already.\n",
  });
  assert.equal(JSON.parse((await runCli(api, ["suspend", "--json", "web"])).stdout).phase, "suspended");
});

test("start --fresh says so to hearthd, and does not pass over one that runs", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "stopped");
  assert.equal((await runCli(api, ["start", "--fresh", "web", "--quiet"])).stdout, "web\n");
  assert.equal(api.requests.at(-1)?.path, "/v1/vms/web/start?fresh=true");
  const running = await runCli(api, ["start", "--fresh", "web"]);
  assert.equal(running.code, 1);
  assert.match(running.stderr, /hint: Stop it first: `hearth stop web`/);
});
