import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

test("several targets go at once, each once, in the order first named; missing ones are reported, BG-104", async () => {
  await using api = await FakeApi.start();
  for (const name of ["a", "b", "c"]) api.addVm(name, "running");
  const { code, stdout, stderr } = await runCli(api, ["stop", "b", "gone", "a", "b", "c"]);
  assert.equal(code, 1);
  assert.equal(stdout, "b\na\nc\n");
  assert.match(stderr, /error: There is no VM gone\./);
  assert.deepEqual(
    [...api.vms.values()].map(({ phase }) => phase),
    ["stopped", "stopped", "stopped"],
  );
  const stops = api.requests.filter(({ path }) => path.endsWith("/stop"));
  assert.equal(stops.length, 3);
});

test("several targets with --json are an array of the API's objects, failures among them", async () => {
  await using api = await FakeApi.start();
  api.addVm("a", "running");
  const { code, stdout } = await runCli(api, ["stop", "--json", "a", "gone"]);
  assert.equal(code, 1);
  const [first, second] = JSON.parse(stdout);
  assert.equal(first.phase, "stopped");
  assert.equal(second.name, "gone");
  assert.equal(second.error.code, "vm.not_found");
});

test("one bad name among several is a usage error, and nothing is done", async () => {
  await using api = await FakeApi.start();
  api.addVm("a", "running");
  assert.equal((await runCli(api, ["stop", "a", "B"])).code, 2);
  assert.equal(api.vms.get("a")?.phase, "running");
});

test("stopping what does not run is a note and no error, VS-032", async () => {
  await using api = await FakeApi.start();
  api.addVm("off", "stopped");
  api.addVm("on", "running");
  assert.deepEqual(await runCli(api, ["stop", "off"]), {
    code: 0,
    stdout: "",
    stderr: "off does not run.\n",
  });
  assert.deepEqual(await runCli(api, ["start", "on"]), { code: 0, stdout: "", stderr: "on runs already.\n" });
  assert.equal((await runCli(api, ["stop", "off", "--quiet"])).stderr, "");
  assert.equal(JSON.parse((await runCli(api, ["stop", "off", "--json"])).stdout).phase, "stopped");
});

test("removing a VM that runs needs -f, VS-032", async () => {
  await using api = await FakeApi.start();
  api.addVm("on", "running");
  const refused = await runCli(api, ["rm", "on"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /hint: Stop it first: `hearth stop on`/);
  assert.deepEqual(await runCli(api, ["rm", "-f", "on"]), { code: 0, stdout: "on\n", stderr: "" });
  assert.equal(api.vms.size, 0);
});

test("stop and restart pass on how long the guest may take, and kill the signal", async () => {
  await using api = await FakeApi.start();
  api.addVm("a", "running");
  await runCli(api, ["restart", "--time", "1m30s", "a", "--quiet"]);
  await runCli(api, ["kill", "-s", "TERM", "a"]);
  assert.deepEqual(
    api.requests.map(({ body }) => body),
    [{ timeoutMs: 90_000 }, { signal: "SIGTERM" }],
  );
  assert.equal((await runCli(api, ["stop", "--time", "10", "a"])).code, 2);
  assert.equal((await runCli(api, ["kill", "-s", "HUP", "a"])).code, 2);
});

test("ls is a table that fits the terminal, names with -q, and an array with --json", async () => {
  await using api = await FakeApi.start();
  api.addVm("a-name-of-the-greatest-length-that-a-virtual-machine-may-have-63", "running");
  api.addVm("b", "stopped");
  const table = await runCli(api, ["ls"], { terminalColumns: 60 });
  const [head = "", first = "", second = ""] = table.stdout.split("\n");
  assert.match(head, /^NAME +IMAGE +STATE +CPUS +MEMORY +UPTIME$/);
  assert.ok(first.length <= 60, first);
  assert.match(first, /^a-name…ave-63 +debian:.* running +2 +2\.0G +1h1m$/);
  assert.match(second, /^b .* stopped .* -$/);
  assert.match((await runCli(api, ["ls"])).stdout, /may-have-63 /);
  assert.equal((await runCli(api, ["ls", "-q"])).stdout.split("\n")[1], "b");
  assert.equal(JSON.parse((await runCli(api, ["ls", "--json"])).stdout).length, 2);
  assert.equal((await runCli(api, ["ps", "-q"])).code, 0);
});

test("ls with nothing to list says how to begin, on stderr", async () => {
  await using api = await FakeApi.start();
  const { stdout, stderr } = await runCli(api, ["ls"]);
  assert.equal(stdout, "");
  assert.match(stderr, /hearth run debian/);
  assert.equal((await runCli(api, ["ls", "--json"])).stdout, "[]\n");
});

test("create boots, prints the name, and names the next command", async () => {
  await using api = await FakeApi.start();
  const { code, stdout, stderr } = await runCli(api, [
    "create",
    "--name",
    "web",
    "--memory",
    "1.5G",
    "debian",
  ]);
  assert.equal(code, 0);
  assert.equal(stdout, "web\n");
  assert.match(stderr, /Next: hearth shell web\n$/);
  assert.equal(api.vms.get("web")?.memoryBytes, 1.5 * 2 ** 30);
  const quiet = await runCli(api, ["create", "--no-start", "--quiet", "--name", "off", "debian"]);
  assert.deepEqual(quiet, { code: 0, stdout: "off\n", stderr: "" });
  assert.equal(api.vms.get("off")?.phase, "created");
});

test("set changes what is given, and refuses to change nothing", async () => {
  await using api = await FakeApi.start();
  api.addVm("a", "stopped");
  assert.equal((await runCli(api, ["set", "a"])).code, 2);
  const { stdout } = await runCli(api, ["set", "a", "--cpus", "4", "--disk", "32G"]);
  assert.equal(stdout, "a: 4 CPUs, 2G memory, 32G disk\n");
  assert.deepEqual(api.requests.at(-1)?.body, { cpus: 4, diskBytes: 32 * 2 ** 30 });
  const limited = await runCli(api, [
    "set",
    "a",
    "--disk-limit",
    "bw=10M/s,ops=500/s",
    "--net-limit",
    "none",
  ]);
  assert.equal(limited.stdout, "a: 4 CPUs, 2G memory, 32G disk, disk limit bw=10M/s,ops=500/s\n");
  const diskLimit = { bandwidthBytesPerS: 10 * 2 ** 20, opsPerS: 500 };
  assert.deepEqual(api.requests.at(-1)?.body, { diskLimit, netLimit: null });
  assert.equal((await runCli(api, ["set", "a", "--disk-limit", "10M"])).code, 2);
});

test("prune asks on a terminal, needs -f elsewhere, and leaves what runs", async () => {
  await using api = await FakeApi.start();
  api.addVm("on", "running");
  api.addVm("off", "stopped");
  api.addVm("new", "created");
  assert.equal((await runCli(api, ["prune"])).code, 2);
  assert.equal((await runCli(api, ["prune"], { terminalColumns: 80, stdin: "n\n" })).code, 1);
  assert.equal(api.vms.size, 3);
  const asked = await runCli(api, ["prune"], { terminalColumns: 80, stdin: "y\n" });
  assert.match(asked.stderr, /Remove off, new/);
  assert.deepEqual([...api.vms.keys()], ["on"]);
  assert.deepEqual(JSON.parse((await runCli(api, ["prune", "-f", "--json"])).stdout), []);
});

test("show says what is not guaranteed", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const { stdout } = await runCli(api, ["show", "web"]);
  assert.match(stdout, /^driver +qemu, emulated$/m);
  assert.match(stdout, /^beware .*not a security boundary\.$/m);
  assert.equal(JSON.parse((await runCli(api, ["show", "web", "--json"])).stdout).pid, 4711);
});

test("a guest's console moves no cursor on a terminal, and is its bytes in a pipe", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const terminal = await runCli(api, ["logs", "web"], { terminalColumns: 80 });
  assert.equal(terminal.stdout, "[    0.000000] Linux\n\\x1b[31mred\n");
  assert.match((await runCli(api, ["logs", "web"])).stdout, /\u001b\[31mred/);
  await runCli(api, ["logs", "--vmm", "-n", "5", "web"]);
  assert.equal(api.requests.at(-1)?.path, "/v1/vms/web/logs?source=vmm&lines=5");
  assert.equal((await runCli(api, ["logs", "-n", "x", "web"])).code, 2);
  const lines = (await runCli(api, ["logs", "--json", "web"])).stdout.trim().split("\n");
  assert.deepEqual(JSON.parse(lines[1] ?? ""), { line: "\\x1b[31mred" });
});

test("stats reads the VMs that run, or those that are named", async () => {
  await using api = await FakeApi.start();
  api.addVm("on", "running");
  api.addVm("off", "stopped");
  assert.match(
    (await runCli(api, ["stats"])).stdout,
    /^NAME.*\non +running +12\.5% +256M +- +1\.0M \/ 8\.0G\n$/,
  );
  assert.equal(JSON.parse((await runCli(api, ["stats", "--json", "off"])).stdout)[0].name, "off");
  assert.equal((await runCli(api, ["stats", "gone"])).code, 1);
});

test("doctor, daemon status, image and kernel lists answer in words and in JSON", async () => {
  await using api = await FakeApi.start();
  assert.equal((await runCli(api, ["doctor"])).stdout, "pass  qemu: 7.2\n");
  assert.match((await runCli(api, ["daemon", "status"])).stdout, /^hearthd +\d/);
  assert.equal((await runCli(api, ["image", "ls", "--json"])).stdout, "[]\n");
  assert.equal((await runCli(api, ["kernel", "ls", "--json"])).stdout, "[]\n");
  assert.equal((await runCli(api, ["image", "rm", "debian"])).code, 1);
  assert.equal((await runCli(api, ["image", "show", "../etc"])).code, 2);
});

test("daemon status does not start hearthd, and exits with 1 when it does not run", async () => {
  const env = { HEARTH_HOME: "/tmp/hearth-nowhere" };
  const { code, stdout } = await runCli(undefined, ["daemon", "status", "--json"], { env });
  assert.equal(code, 1);
  assert.deepEqual(JSON.parse(stdout), { alive: false });
  assert.equal((await runCli(undefined, ["daemon", "stop"], { env })).code, 0);
  assert.equal((await runCli(undefined, ["daemon", "logs"], { env })).code, 1);
});

test("the progress of long work is one line in place on a terminal, and gone afterwards", async () => {
  await using api = await FakeApi.start();
  const run = (...words: string[]) => ["run", ...words, "debian", "--", "echo", "hi"];
  const terminal = await runCli(api, run("--name", "a"), { terminalColumns: 20 });
  assert.equal(terminal.stderr, "\rboot: waiting for t\u001b[K\r\u001b[K");
  assert.equal((await runCli(api, run("--name", "b"))).stderr, "boot: waiting for the agent\n");
  assert.equal((await runCli(api, run("--name", "c", "--quiet"))).stderr, "");
});

test("the completion offers commands, flags, choices, and VMs by name", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const offers = async (...words: string[]) =>
    (await runCli(api, ["__complete", "--", ...words])).stdout.trim().split("\n");
  assert.deepEqual(await offers("re"), ["restart", "resume"]);
  assert.deepEqual(await offers("image", ""), ["ls", "build", "show", "rm"]);
  assert.deepEqual(await offers("stop", ""), ["web"]);
  assert.deepEqual(await offers("stop", "web", "--t"), ["--time"]);
  assert.deepEqual(await offers("run", "--network", ""), ["none", "user"]);
  for (const start of ["--", "-", "--m"]) {
    const flags = await offers("run", start);
    assert.ok(flags.includes("--memory"), start);
    assert.deepEqual(
      flags.filter((flag) => !flag.startsWith(start)),
      [],
    );
  }
  assert.deepEqual(await offers("stop", "--time", "1m", "--"), ["--time", "--json", "--quiet"]);
  assert.deepEqual(await offers("exec", "web", "l"), [":path"]);
  assert.ok((await offers("cp", "")).includes("web:"));
});
