import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { STDIN_WINDOW_BYTES } from "#api/exec-stream.ts";
import { CliRun, runCli } from "#testing/cli-run.ts";
import { FakeApi } from "#testing/fake-api.ts";

test("exec passes the exit code through, and Hearth's own failures are 125 to 127, BG-063", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  api.addVm("off", "stopped");
  const codeOf = async (...words: string[]) => (await runCli(api, ["exec", ...words])).code;
  assert.equal(await codeOf("web", "--", "exit", "0"), 0);
  assert.equal(await codeOf("web", "--", "exit", "42"), 42);
  assert.equal(await codeOf("web", "--", "kill", "9"), 137);
  assert.equal(await codeOf("web", "--", "missing"), 127);
  assert.equal(await codeOf("off", "--", "exit", "0"), 125);
  assert.equal(await codeOf("gone", "--", "exit", "0"), 125);
  assert.equal(await codeOf("--nonsense", "web", "--", "exit", "0"), 125);
  assert.equal(await codeOf("web"), 125);
});

test("argv arrives byte for byte, and flags after the VM belong to the command, BG-044, VS-033", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const argv = [
    "sh",
    "-c",
    "exit 42",
    "a b",
    "'",
    '"',
    "$x",
    "`id`",
    "new\nline",
    "",
    "*",
    "--json",
    "--",
    "-e",
    "ü",
    "x".repeat(100_000),
  ];
  await runCli(api, ["exec", "-e", "A=1=2", "web", ...argv]);
  await runCli(api, ["exec", "web", "--", ...argv]);
  await runCli(api, ["exec", "web", "--", "--", "x"]);
  assert.deepEqual(api.execs[0]?.argv, argv);
  assert.deepEqual(api.execs[1]?.argv, argv);
  assert.deepEqual(api.execs[2]?.argv, ["--", "x"]);
  assert.deepEqual(api.execs[0]?.env, { A: "1=2" });
});

test("a NUL byte and an argument that no Linux takes are refused before anything starts", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  assert.equal((await runCli(api, ["exec", "web", "--", "a\0b"])).code, 125);
  assert.equal((await runCli(api, ["exec", "web", "--", "x".repeat(131_072)])).code, 125);
  assert.equal(api.execs.length, 0);
});

test("a stdin that is no terminal is passed on without -i, and a terminal's is not", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const piped = await runCli(api, ["exec", "web", "--", "cat"], { stdin: "hi\u0000\u00ff\n" });
  assert.equal(piped.stdout, "hi\u0000\u00ff\n");
  const terminal = await runCli(api, ["exec", "web", "--", "cat"], { terminalColumns: 80, stdin: "typed" });
  assert.equal(terminal.stdout, "");
  assert.equal(api.execs[1]?.stdin, false);
});

test("stdin stops at its window while the command does not read, and signals still pass, L5", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const stdin = new PassThrough({ highWaterMark: 64 * 1024 });
  let written = 0;
  let full = false;
  const pour = (): void => {
    while (!full && stdin.write(Buffer.alloc(64 * 1024))) written += 64 * 1024;
    if (stdin.writableNeedDrain) stdin.once("drain", pour);
  };
  const cli = new CliRun(api, ["exec", "web", "--", "deaf"], { stdin });
  pour();
  await api.until(() => api.stdinBytes === STDIN_WINDOW_BYTES);
  cli.signal("SIGUSR1");
  await api.until(() => api.signals.includes("SIGUSR1"));
  assert.equal(api.stdinBytes, STDIN_WINDOW_BYTES);
  assert.ok(written < STDIN_WINDOW_BYTES + 2 * 1024 * 1024, `${written} bytes were taken from the pipe`);
  full = true;
  cli.signal("SIGINT");
  cli.signal("SIGINT");
  assert.equal(await cli.code, 130);
});

test("output to a slow reader is held back and arrives whole, L5", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const { code, stdout } = await runCli(api, ["exec", "web", "--", "flood", "5000001"]);
  assert.equal(code, 0);
  assert.equal(stdout.length, 5_000_001);
});

test("signals reach the command, and its exit code comes back", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const cli = new CliRun(api, ["exec", "web", "--", "wait"], { terminalColumns: 80 });
  await once(cli.stdoutStream, "data");
  cli.signal("SIGUSR2");
  await api.until(() => api.signals.includes("SIGUSR2"));
  cli.signal("SIGTERM");
  const code = await cli.code;
  assert.equal(code, 143);
});

test("Ctrl-C before the command has started gives the run up with 130, BG-051", async () => {
  await using api = await FakeApi.start();
  const cli = new CliRun(api, ["run", "--rm", "debian", "--", "never"], { terminalColumns: 80 });
  await api.until(() => api.runs.length === 1);
  cli.signal("SIGINT");
  assert.equal(await cli.code, 130);
  await api.until(() => api.abandoned === 1);
  assert.equal(api.runs[0]?.vm.autoRemove, true);
});

test("a terminal is raw only while the command runs, and its window is followed", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const stdin = new PassThrough();
  const cli = new CliRun(api, ["exec", "-it", "web", "--", "wait"], { terminalColumns: 100, stdin });
  await api.until(() => api.execs.length === 1);
  assert.deepEqual(api.execs[0]?.tty, { rows: 24, cols: 100, term: "xterm" });
  while (cli.rawModes.length === 0) await new Promise((resolve) => setImmediate(resolve));
  Object.assign(cli.stdoutStream, { columns: 60 }).emit("resize");
  await api.until(() => api.resizes.length === 1);
  assert.deepEqual(api.resizes, [{ rows: 24, cols: 60 }]);
  cli.signal("SIGHUP");
  assert.equal(await cli.code, 129);
  assert.deepEqual(cli.rawModes, [true, false]);
});

test("run without a command on a terminal asks for a shell with one, and through a pipe for none", async () => {
  await using api = await FakeApi.start();
  await runCli(api, ["run", "debian"], { terminalColumns: 80 });
  await runCli(api, ["run", "--name", "b", "debian"]);
  assert.ok(api.runs[0]?.exec.tty);
  assert.equal(api.runs[1]?.exec.tty, undefined);
  assert.deepEqual(api.runs[0]?.exec.argv, []);
});

test("run -d prints the VM's name, and starts its command apart from us", async () => {
  await using api = await FakeApi.start();
  const { code, stdout } = await runCli(api, [
    "run",
    "-d",
    "--rm",
    "-e",
    "A=1",
    "--name",
    "web",
    "debian",
    "sleep",
    "9",
  ]);
  assert.equal(code, 0);
  assert.equal(stdout, "web\n");
  assert.deepEqual(api.runs[0]?.vm, { image: "debian", name: "web", autoRemove: true, env: { A: "1" } });
  assert.deepEqual(
    api.execs.map(({ argv, detach }) => ({ argv, detach })),
    [
      { argv: [], detach: true },
      { argv: ["sleep", "9"], detach: true },
    ],
  );
});

test("run -d keeps the VM of a command that cannot start, and names it; with --rm it is removed", async () => {
  await using api = await FakeApi.start();
  const kept = await runCli(api, ["run", "-d", "--name", "web", "debian", "--", "missing"]);
  assert.equal(kept.code, 127);
  assert.equal(kept.stdout, "web\n");
  assert.match(kept.stderr, /not found[^]*hearth exec -d web/);
  assert.equal(api.vms.get("web")?.phase, "running");
  const json = await runCli(api, ["run", "-d", "--json", "--name", "b", "debian", "--", "missing"]);
  assert.match(JSON.parse(json.stdout).error.hint, /b runs without it/);
  const removed = await runCli(api, ["run", "-d", "--rm", "--name", "tmp", "debian", "--", "missing"]);
  assert.deepEqual([removed.code, removed.stdout], [127, ""]);
  assert.deepEqual([...api.vms.keys()], ["web", "b"]);
});

test("with --json exec prints what the command said and how it ended", async () => {
  await using api = await FakeApi.start();
  api.addVm("web", "running");
  const { code, stdout } = await runCli(api, ["exec", "--json", "web", "--", "echo", "a", "b"]);
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout), { exitCode: 0, timedOut: false, stdout: "a b\n", stderr: "" });
});
