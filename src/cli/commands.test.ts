import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import { CliRun, runCli } from "#testing/cli-run.ts";
import { Gate } from "#testing/gate.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("several targets are handled at once, each once, and missing ones are reported", async (t) => {
  const served = await serveDaemon(t);
  for (const name of ["a", "b", "c"]) await served.run(name);
  const { code, stdout, stderr } = await runCli(served, ["stop", "b", "gone", "a", "b", "c"]);
  assert.equal(code, 1);
  assert.equal(stdout, "b\na\nc\n");
  assert.match(stderr, /error: There is no VM "gone"\./);
  assert.deepEqual(
    ["a", "b", "c"].map((name) => served.phase(name)),
    ["stopped", "stopped", "stopped"],
  );
  const operations = await (await served.client()).operations.list();
  const stops = operations.filter(({ request }) => request.endsWith("/stop"));
  assert.equal(stops.length, 3);
});

test("several targets with --json print an array of the API's objects and errors", async (t) => {
  const served = await serveDaemon(t);
  await served.run("a");
  const { code, stdout } = await runCli(served, ["stop", "--json", "a", "gone"]);
  assert.equal(code, 1);
  const [first, second] = JSON.parse(stdout);
  assert.equal(first.phase, "stopped");
  assert.equal(second.name, "gone");
  assert.equal(second.error.code, "vm.not_found");
});

test("one bad name among several is a usage error, and nothing is changed", async (t) => {
  const served = await serveDaemon(t);
  await served.run("a");
  assert.equal((await runCli(served, ["stop", "a", "B"])).code, 2);
  assert.equal(served.phase("a"), "running");
});

test("stopping a VM that does not run is a note and not an error", async (t) => {
  const served = await serveDaemon(t);
  await served.runAndStop("off");
  await served.run("on");
  assert.deepEqual(await runCli(served, ["stop", "off"]), {
    code: 0,
    stdout: "",
    stderr: "off is not running.\n",
  });
  assert.deepEqual(await runCli(served, ["start", "on"]), {
    code: 0,
    stdout: "",
    stderr: "on is already running.\n",
  });
  assert.equal((await runCli(served, ["stop", "off", "--quiet"])).stderr, "");
  assert.equal(JSON.parse((await runCli(served, ["stop", "off", "--json"])).stdout).phase, "stopped");
});

test("removing a running VM needs -f", async (t) => {
  const served = await serveDaemon(t);
  await served.run("on");
  const refused = await runCli(served, ["rm", "on"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /hint: Stop it first: `hearth stop on`/);
  assert.deepEqual(await runCli(served, ["rm", "-f", "on"]), { code: 0, stdout: "on\n", stderr: "" });
  assert.deepEqual(served.names(), []);
});

test("stop and restart pass on the timeout, and kill the signal", async (t) => {
  const served = await serveDaemon(t);
  const { pid } = await served.run("a");
  served.host.guestFaults.shutdownGate = new Gate(); // The guest does not power off.
  const restarted = await runCli(served, ["restart", "--time", "20ms", "a", "--quiet"]);
  assert.deepEqual(restarted, { code: 0, stdout: "a\n", stderr: "" });
  assert.notEqual(served.host.machine.vmm("a").pid, pid);
  assert.equal((await runCli(served, ["kill", "-s", "TERM", "a"])).code, 0);
  assert.equal(served.host.driver.calls.at(-1), "stop terminate");
  assert.equal((await runCli(served, ["stop", "--time", "10", "a"])).code, 2);
  assert.equal((await runCli(served, ["kill", "-s", "HUP", "a"])).code, 2);
});

test("ls is a table that fits the terminal, names with -q, and an array with --json", async (t) => {
  const served = await serveDaemon(t);
  await served.runAndStop("b");
  await served.run("a-name-of-the-greatest-length-that-a-virtual-machine-can-have63");
  const table = await runCli(served, ["ls"], { terminalColumns: 60 });
  const [head = "", first = "", second = ""] = table.stdout.split("\n");
  assert.match(head, /^NAME +IMAGE +STATE +CPUS +MEMORY +UPTIME$/);
  assert.ok(first.length <= 60, first);
  assert.match(first, /^a-name-of-…can-have63 +debian +running +2 +2\.0G +0s$/);
  assert.match(second, /^b .* stopped .* -$/);
  assert.match((await runCli(served, ["ls"])).stdout, /can-have63 /);
  assert.equal((await runCli(served, ["ls", "-q"])).stdout.split("\n")[1], "b");
  assert.equal(JSON.parse((await runCli(served, ["ls", "--json"])).stdout).length, 2);
  assert.equal((await runCli(served, ["ps", "-q"])).code, 0);
});

test("ls without VMs says on stderr how to create one", async (t) => {
  const served = await serveDaemon(t);
  const { stdout, stderr } = await runCli(served, ["ls"]);
  assert.equal(stdout, "");
  assert.match(stderr, /hearth run debian/);
  assert.equal((await runCli(served, ["ls", "--json"])).stdout, "[]\n");
});

test("create boots, prints the name, and names the next command", async (t) => {
  const served = await serveDaemon(t);
  const { code, stdout, stderr } = await runCli(served, [
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
  assert.equal(served.vm("web")?.spec.memoryBytes, 1.5 * 2 ** 30);
  const quiet = await runCli(served, ["create", "--no-start", "--quiet", "--name", "off", "debian"]);
  assert.deepEqual(quiet, { code: 0, stdout: "off\n", stderr: "" });
  assert.equal(served.phase("off"), "created");
});

test("create keeps and names a VM that does not boot; with --rm it is deleted", async (t) => {
  const served = await serveDaemon(t);
  const refuse = (): void =>
    void (served.host.driver.faults.bootError = new HearthError("vmm.missing", "There is no QEMU here."));
  refuse();
  const kept = await runCli(served, ["create", "debian"]);
  assert.deepEqual([kept.code, kept.stdout], [1, ""]);
  const [vm] = served.host.store.listVms();
  assert.match(kept.stderr, new RegExp(`no QEMU here[^]*hearth start ${vm?.name}\\b`));
  refuse();
  const json = await runCli(served, ["create", "--json", "--name", "web", "debian"]);
  assert.match(JSON.parse(json.stdout).error.hint, /web is kept/);
  refuse();
  const removed = await runCli(served, ["create", "--rm", "--name", "tmp", "debian"]);
  assert.equal(removed.code, 1);
  assert.doesNotMatch(removed.stderr, /hearth start/);
  assert.equal(served.host.store.findVm("tmp"), undefined);
});

test("set changes what is given, and needs at least one flag", async (t) => {
  const served = await serveDaemon(t);
  await served.runAndStop("a");
  assert.equal((await runCli(served, ["set", "a"])).code, 2);
  const { stdout } = await runCli(served, ["set", "a", "--cpus", "4", "--disk", "32G"]);
  assert.equal(stdout, "a: 4 CPUs, 2G memory, 32G disk\n");
  assert.deepEqual([served.vm("a")?.spec.cpus, served.vm("a")?.spec.diskBytes], [4, 32 * 2 ** 30]);
  const limited = await runCli(served, [
    "set",
    "a",
    "--disk-limit",
    "bw=10M/s,ops=500/s",
    "--net-limit",
    "none",
  ]);
  assert.equal(limited.stdout, "a: 4 CPUs, 2G memory, 32G disk, disk limit bw=10M/s,ops=500/s\n");
  const diskLimit = { bandwidthBytesPerS: 10 * 2 ** 20, opsPerS: 500 };
  assert.deepEqual(served.vm("a")?.spec.diskLimit, diskLimit);
  assert.equal((await runCli(served, ["set", "a", "--disk-limit", "10M"])).code, 2);
});

test("prune asks on a terminal, needs -f elsewhere, and keeps running VMs", async (t) => {
  const served = await serveDaemon(t);
  await served.run("on");
  await served.runAndStop("off");
  await served.create("new");
  assert.equal((await runCli(served, ["prune"])).code, 2);
  assert.equal((await runCli(served, ["prune"], { terminalColumns: 80, stdin: "n\n" })).code, 1);
  assert.equal(served.names().length, 3);
  const asked = await runCli(served, ["prune"], { terminalColumns: 80, stdin: "y\n" });
  assert.match(asked.stderr, /Remove new, off/);
  assert.deepEqual(served.names(), ["on"]);
  assert.deepEqual(JSON.parse((await runCli(served, ["prune", "-f", "--json"])).stdout), []);
});

test("show prints the limitations of a VM", async (t) => {
  const served = await serveDaemon(t);
  const { pid } = await served.run("web");
  const { stdout } = await runCli(served, ["show", "web"]);
  assert.match(stdout, /^driver +fake, emulated$/m);
  assert.match(stdout, /^caveat +nothing runs: this driver is a fake$/m);
  assert.equal(JSON.parse((await runCli(served, ["show", "web", "--json"])).stdout).pid, pid);
});

test("logs escapes a guest's console on a terminal, and prints its bytes into a pipe", async (t) => {
  const served = await serveDaemon(t);
  const { plan } = await served.run("web");
  writeFileSync(join(plan.stateDir, "console.log"), "[    0.000000] Linux\r\n\u001b[31mred\n");
  writeFileSync(join(plan.stateDir, "vmm.log"), "one\ntwo\nthree\n");
  const terminal = await runCli(served, ["logs", "web"], { terminalColumns: 80 });
  assert.equal(terminal.stdout, "[    0.000000] Linux\n\\x1b[31mred\n");
  assert.match((await runCli(served, ["logs", "web"])).stdout, /\u001b\[31mred/);
  assert.equal((await runCli(served, ["logs", "--vmm", "-n", "2", "web"])).stdout, "two\nthree\n");
  assert.equal((await runCli(served, ["logs", "-n", "x", "web"])).code, 2);
  const lines = (await runCli(served, ["logs", "--json", "web"])).stdout.trim().split("\n");
  assert.deepEqual(JSON.parse(lines[1] ?? ""), { line: "\\x1b[31mred" });
});

test("stats shows the running VMs, or those that are named", async (t) => {
  const served = await serveDaemon(t);
  await served.run("on");
  await served.runAndStop("off");
  assert.match(
    (await runCli(served, ["stats"])).stdout,
    /^NAME.*\non +running +10\.0% +1B +2\.0G +0B \/ 8\.0G\n$/,
  );
  assert.equal(JSON.parse((await runCli(served, ["stats", "--json", "off"])).stdout)[0].name, "off");
  assert.equal((await runCli(served, ["stats", "gone"])).code, 1);
});

test("doctor, daemon status, image and kernel lists print text and JSON", async (t) => {
  const served = await serveDaemon(t);
  assert.match(
    (await runCli(served, ["doctor"])).stdout,
    /^pass +hearthd: version \d.*\npass +store: 0 VMs in /,
  );
  assert.match((await runCli(served, ["daemon", "status"])).stdout, /^hearthd +\d/);
  assert.equal((await runCli(served, ["image", "ls", "--json"])).stdout, "[]\n");
  assert.equal((await runCli(served, ["kernel", "ls", "--json"])).stdout, "[]\n");
  assert.equal((await runCli(served, ["image", "rm", "debian"])).code, 1);
  assert.equal((await runCli(served, ["image", "show", "../etc"])).code, 2);
});

test("daemon status does not start hearthd, and exits with 1 when it does not run", async () => {
  const env = { HEARTH_HOME: "/tmp/hearth-nowhere" };
  const { code, stdout } = await runCli(undefined, ["daemon", "status", "--json"], { env });
  assert.equal(code, 1);
  assert.deepEqual(JSON.parse(stdout), { alive: false });
  assert.equal((await runCli(undefined, ["daemon", "stop"], { env })).code, 0);
  assert.equal((await runCli(undefined, ["daemon", "logs"], { env })).code, 1);
});

test("progress is one changing line on a terminal, and is removed at the end", async (t) => {
  const served = await serveDaemon(t);
  const run = (...words: string[]) => ["run", ...words, "debian", "--", "echo", "hi"];
  const terminal = await runCli(served, run("--name", "a"), { terminalColumns: 20 });
  assert.equal(terminal.stderr, "\rboot: starting the \u001b[K\r\u001b[K");
  const piped = await runCli(served, run("--name", "b"));
  assert.equal(
    piped.stderr,
    "boot: starting the VMM\nboot: starting the fake\nboot: waiting for the guest\n",
  );
  assert.equal((await runCli(served, run("--name", "c", "--quiet"))).stderr, "");
});

test("the completion offers commands, flags, choices, and VMs by name", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const offers = async (...words: string[]) =>
    (await runCli(served, ["__complete", "--", ...words])).stdout.trim().split("\n");
  assert.deepEqual(await offers("re"), ["restart", "resume"]);
  assert.deepEqual(await offers("image", ""), ["ls", "build", "show", "rm"]);
  assert.deepEqual(await offers("stop", ""), ["web"]);
  assert.deepEqual(await offers("stop", "web", "--t"), ["--time"]);
  assert.deepEqual(await offers("run", "--network", ""), ["none", "nat", "allow-all", "deny-all"]);
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
  for (const before of [[], ["one"], ["one", "two"]])
    assert.ok((await offers("cp", ...before, "")).includes("web:"));
  assert.ok(!(await offers("shell", "--")).includes("--json"), "it is refused");
});

test("exec without a command, and cp without a destination, are refused with a hint", async () => {
  const exec = await runCli(undefined, ["exec", "web"]);
  assert.equal(exec.code, 125);
  assert.match(exec.stderr, /COMMAND is missing.*hint: .*`hearth exec web -- COMMAND`.*`hearth shell web`/s);
  const cp = await runCli(undefined, ["cp", "notes.txt"]);
  assert.equal(cp.code, 2);
  assert.match(cp.stderr, /DESTINATION is missing.*hint: .*hearth cp notes\.txt web:\/root\//s);
});

for (const [what, typed, code, isRemoved] of [
  ["y", "y\n", 0, true],
  ["n", "n\n", 1, false],
  ["Enter", "\n", 1, false],
  ["Ctrl-C", "\u0003", 130, false],
  ["Ctrl-D", "\u0004", 1, false],
] as const) {
  test(`${what} at a prompt ends the command with ${code}, without an error`, async (t) => {
    const served = await serveDaemon(t);
    await served.runAndStop("old");
    const stdin = new PassThrough();
    const cli = new CliRun(served, ["prune"], { terminalColumns: 80, stdin });
    await once(cli.stderrStream, "data");
    stdin.write(typed);
    assert.equal(await cli.code, code);
    assert.equal(served.vm("old") === undefined, isRemoved);
    assert.doesNotMatch(cli.stderr, /error/);
  });
}

test("closing the terminal at a prompt is not a yes", async (t) => {
  const served = await serveDaemon(t);
  await served.runAndStop("old");
  const cli = new CliRun(served, ["prune"], { terminalColumns: 80, stdin: "" });
  assert.equal(await cli.code, 1);
  assert.ok(served.vm("old"));
});
