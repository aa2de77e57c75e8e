import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { STDIN_WINDOW_BYTES } from "#api/exec-stream.ts";
import { BreakableRelay } from "#testing/breakable-relay.ts";
import { CliRun, runCli } from "#testing/cli-run.ts";
import { Gate } from "#testing/gate.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const PQ = "\u0010\u0011";

test("exec passes the exit code through, and Hearth's own failures are 125 to 127", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  await served.runAndStop("off");
  const codeOf = async (...words: string[]) => (await runCli(served, ["exec", ...words])).code;
  assert.equal(await codeOf("web", "--", "exit", "0"), 0);
  assert.equal(await codeOf("web", "--", "exit", "42"), 42);
  assert.equal(await codeOf("web", "--", "kill", "9"), 137);
  assert.equal(await codeOf("web", "--", "missing"), 127);
  assert.equal(await codeOf("off", "--", "exit", "0"), 125);
  assert.equal(await codeOf("gone", "--", "exit", "0"), 125);
  assert.equal(await codeOf("--nonsense", "web", "--", "exit", "0"), 125);
  assert.equal(await codeOf("web"), 125);
});

test("argv arrives byte for byte, and flags after the VM belong to the command", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
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
  await runCli(served, ["exec", "-e", "A=1=2", "web", ...argv]);
  await runCli(served, ["exec", "web", "--", ...argv]);
  await runCli(served, ["exec", "web", "--", "--", "x"]);
  const specs = served.commands().map(({ spec }) => spec);
  assert.deepEqual(
    specs.map((spec) => spec.argv),
    [argv, argv, ["--", "x"]],
  );
  assert.deepEqual(specs[0]?.env, { A: "1=2" });
});

test("a NUL byte and an argument that is too long for Linux are refused before anything starts", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  assert.equal((await runCli(served, ["exec", "web", "--", "a\0b"])).code, 125);
  assert.equal((await runCli(served, ["exec", "web", "--", "x".repeat(131_072)])).code, 125);
  assert.deepEqual(served.commands(), []);
});

test("without -i, stdin is passed on if it is not a terminal", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const piped = await runCli(served, ["exec", "web", "--", "cat"], { stdin: "hi\u0000\u00ff\n" });
  assert.equal(piped.stdout, "hi\u0000\u00ff\n");
  const terminal = await runCli(served, ["exec", "web", "--", "cat"], {
    terminalColumns: 80,
    stdin: "typed",
  });
  assert.equal(terminal.stdout, "");
  assert.equal(served.commands()[1]?.spec.stdin, false);
});

test("stdin stops at its window while the command does not read, and signals still pass", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const relay = await BreakableRelay.start(t, served);
  const stdin = new PassThrough({ highWaterMark: 64 * 1024 });
  let written = 0;
  let full = false;
  const pour = (): void => {
    while (!full && stdin.write(Buffer.alloc(64 * 1024))) written += 64 * 1024;
    if (stdin.writableNeedDrain) stdin.once("drain", pour);
  };
  const cli = new CliRun(relay, ["exec", "web", "--", "deaf"], { stdin });
  pour();
  await relay.sent(STDIN_WINDOW_BYTES);
  cli.signal("SIGUSR1");
  await served.until(() => served.commands()[0]?.signals.includes("SIGUSR1") === true);
  assert.ok(relay.sentBytes < STDIN_WINDOW_BYTES + 10_000, `${relay.sentBytes} bytes were sent`);
  assert.ok(written < STDIN_WINDOW_BYTES + 2 * 1024 * 1024, `${written} bytes were taken from the pipe`);
  full = true;
  cli.signal("SIGINT");
  cli.signal("SIGINT");
  assert.equal(await cli.code, 130);
});

test("output to a slow reader is held back and arrives complete", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const { code, stdout } = await runCli(served, ["exec", "web", "--", "flood", "5000001"]);
  assert.equal(code, 0);
  assert.equal(stdout.length, 5_000_001);
});

test("signals reach the command, and its exit code comes back", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const cli = new CliRun(served, ["exec", "web", "--", "wait"], { terminalColumns: 80 });
  await once(cli.stdoutStream, "data");
  cli.signal("SIGUSR2");
  await served.until(() => served.commands()[0]?.signals.includes("SIGUSR2") === true);
  cli.signal("SIGTERM");
  const code = await cli.code;
  assert.equal(code, 143);
});

test("Ctrl-C before the command has started cancels the run with 130", async (t) => {
  const served = await serveDaemon(t);
  const boot = new Gate();
  served.host.driver.faults.bootGate = boot;
  const cli = new CliRun(served, ["run", "--rm", "debian", "--", "true"], { terminalColumns: 80 });
  await boot.reached;
  cli.signal("SIGINT");
  assert.equal(await cli.code, 130);
  await served.until(() => served.names().length === 0);
  assert.deepEqual(served.commands(), []);
});

test("a terminal is raw only while the command runs, and resizing it resizes the guest's", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const stdin = new PassThrough();
  const cli = new CliRun(served, ["exec", "-it", "web", "--", "wait"], { terminalColumns: 100, stdin });
  await served.until(() => served.commands().length === 1);
  assert.deepEqual(served.commands()[0]?.spec.tty, { rows: 24, cols: 100, term: "xterm" });
  while (cli.rawModes.length === 0) await new Promise((resolve) => setImmediate(resolve));
  Object.assign(cli.stdoutStream, { columns: 60 }).emit("resize");
  await served.until(() => served.commands()[0]?.sizes.length === 1);
  assert.deepEqual(served.commands()[0]?.sizes, [{ rows: 24, cols: 60 }]);
  cli.signal("SIGHUP");
  assert.equal(await cli.code, 129);
  assert.deepEqual(cli.rawModes, [true, false]);
});

test("run without a command on a terminal asks for a shell with one, and through a pipe for none", async (t) => {
  const served = await serveDaemon(t);
  await runCli(served, ["run", "debian"], { terminalColumns: 80 });
  await runCli(served, ["run", "--name", "b", "debian"]);
  const [shell, piped] = served.commands().map(({ spec }) => spec);
  assert.ok(shell?.tty);
  assert.deepEqual(shell.argv, []);
  assert.ok(piped);
  assert.equal(piped.tty, undefined);
});

test("run -d prints the VM's name, and starts its command detached", async (t) => {
  const served = await serveDaemon(t);
  const { code, stdout } = await runCli(served, [
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
  assert.equal(served.vm("web")?.spec.autoRemove, true);
  assert.deepEqual(
    served.commands().map(({ spec: { argv, detach, env } }) => ({ argv, detach, env })),
    [{ argv: ["sleep", "9"], detach: true, env: { A: "1" } }],
  );
});

test("run -d keeps and names the VM of a command that cannot start; with --rm it is deleted", async (t) => {
  const served = await serveDaemon(t);
  const kept = await runCli(served, ["run", "-d", "--name", "web", "debian", "--", "missing"]);
  assert.equal(kept.code, 127);
  assert.equal(kept.stdout, "web\n");
  assert.match(kept.stderr, /not found[^]*hearth exec -d web/);
  assert.equal(served.phase("web"), "running");
  const json = await runCli(served, ["run", "-d", "--json", "--name", "b", "debian", "--", "missing"]);
  assert.match(JSON.parse(json.stdout).error.hint, /b is running without the command/);
  const removed = await runCli(served, ["run", "-d", "--rm", "--name", "tmp", "debian", "--", "missing"]);
  assert.deepEqual([removed.code, removed.stdout], [127, ""]);
  assert.deepEqual(served.names(), ["b", "web"]);
});

test("with --json exec prints the command's output and how it ended", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const { code, stdout } = await runCli(served, ["exec", "--json", "web", "--", "echo", "a", "b"]);
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout), { exitCode: 0, timedOut: false, stdout: "a b\n", stderr: "" });
});

test("the detach keys end exec and its command, and reset the terminal", { timeout: 20_000 }, async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const stdin = new PassThrough();
  const words = ["exec", "-it", "web", "--", "cat"];
  const cli = new CliRun(served, words, { terminalColumns: 80, stdin });
  stdin.write("\u001b[?1049htyped");
  await once(cli.stdoutStream, "data");
  stdin.write(`more${PQ}`);
  assert.equal(await cli.code, 129);
  await served.until(() => served.commands()[0]?.state === "left");
  assert.deepEqual(cli.rawModes, [true, false]);
  assert.match(cli.stderr, /Detached\./);
  assert.ok(cli.stdout.endsWith("\u001b[?1049l\u001b[0m"), JSON.stringify(cli.stdout));
});

test("a pipe may hold the bytes of the detach keys", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const { code, stdout } = await runCli(served, ["exec", "-i", "web", "--", "cat"], { stdin: `a${PQ}b` });
  assert.deepEqual([code, stdout], [0, `a${PQ}b`]);
});

test("a shell at a terminal is the user's login shell, and with --no-login the image's command", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  for (const words of [[], ["-w", "/srv"], ["--no-login"]])
    await runCli(served, ["shell", ...words, "web"], { terminalColumns: 80 });
  const [login, elsewhere, plain] = served.commands().map(({ spec }) => spec.argv.join(" "));
  assert.match(login ?? "", /^\/bin\/sh -c cd .*exec "\$\{SHELL:-\/bin\/sh\}" -l$/);
  assert.match(elsewhere ?? "", /^\/bin\/sh -c export LANG/);
  assert.equal(plain, "");
});

test("one SIGTERM, as timeout(1) sends it, ends exec, run and shell on a paused VM", async (t) => {
  for (const words of [
    ["exec", "web", "--"],
    ["exec", "--json", "web", "--"],
    ["run", "--name", "web", "debian"],
  ]) {
    const served = await serveDaemon(t);
    if (words[0] === "exec") await served.run("web");
    const cli = new CliRun(served, [...words, "deaf"], { stdin: "x" });
    await served.until(() => (served.commands()[0]?.stdinBytes ?? 0) > 0); // The command has started.
    await (await served.client()).vm("web").pause();
    cli.signal("SIGTERM");
    assert.equal(await cli.code, 143);
    await served.until(() => served.commands()[0]?.state === "left");
  }
});

test("a third signal ends a command whose hearthd is stopped", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const relay = await BreakableRelay.start(t, served);
  const cli = new CliRun(relay, ["exec", "web", "--", "deaf"], { stdin: "x" });
  await served.until(() => (served.commands()[0]?.stdinBytes ?? 0) > 0); // It has started, and ignores signals.
  relay.isSilent = true;
  for (const _ of [1, 2, 3]) cli.signal("SIGTERM");
  assert.equal(await cli.code, 143);
});

test("a hearthd that never answers does not keep a command that has not started from ending", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const relay = await BreakableRelay.start(t, served);
  relay.isSilent = true;
  const cli = new CliRun(relay, ["exec", "web", "--", "wait"]);
  await relay.sent(1);
  cli.signal("SIGTERM");
  assert.equal(await cli.code, 143);
});
