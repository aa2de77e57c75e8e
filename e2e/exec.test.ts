/** `hearth exec` and `hearth shell`: words, streams, signals, terminals. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { before, describe, test } from "node:test";
import { Bed } from "./bed.ts";
import { runCli } from "./run-cli.ts";
import type { CliResult } from "./run-cli.ts";
import { said } from "./said.ts";

const bed = new Bed();
const EXEC = ["exec", "box", "--"];
const TIMED = ["exec", "--timeout", "4s", "box", "--"];

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["create", "--name", "box", "debian"]);
});

describe("argv arrives byte for byte", () => {
  const show = ["sh", "-c", 'for word; do printf "%s\\0" "$word"; done', "sh"];
  for (const [what, words] of [
    ["blanks, quotes and dollars", ["a  b", "'", '"', "$HOME", "`id`", "\\", "$(id)", "!!"]],
    ["newlines, tabs and other control characters", ["a\nb\n", "\t", "\x01\x1b[31m", "\r"]],
    ["empty words", ["", "", "x", ""]],
    ["globs, tildes and what looks like flags", ["*", "?", "~", "--rm", "-it", "--", "--help", "{a,b}"]],
    ["unicode", ["naïve", "日本", "👩‍🚀"]],
    ["a word of 100 KB", ["x".repeat(100 * 1024)]],
    ["a thousand words", Array.from({ length: 1000 }, (_, index) => `word ${index}`)],
  ] as const) {
    test(what, async () => {
      const out = await bed.ok([...EXEC, ...show, ...words]);
      assert.deepEqual(out.split("\0").slice(0, -1), [...words]);
    });
  }

  test("sh -c 'exit 42' is 42", async () => {
    assert.equal((await bed.hearth([...EXEC, "sh", "-c", "exit 42"])).code, 42);
  });

  test("a word that Linux cannot take is refused with the fix", async () => {
    const hearth = await bed.connect();
    await assert.rejects(hearth.vm("box").exec(["echo", "x".repeat(128 * 1024)]), {
      code: "input.invalid",
      hint: "Pass it on stdin.",
    });
    await assert.rejects(hearth.vm("box").exec(["echo", "a\0b"]), { code: "input.invalid" });
  });
});

test("exit codes: 127 not found, 126 not executable, 128+n of signal n, 125 for a user who is not there", async () => {
  const code = async (flags: readonly string[], ...argv: string[]): Promise<number> =>
    (await bed.hearth(["exec", ...flags, "box", "--", ...argv])).code;
  assert.equal(await code([], "no-such-program"), 127);
  assert.equal(await code([], "/etc"), 126);
  assert.equal(await code([], "sh", "-c", "kill -SEGV $$"), 128 + 11);
  assert.equal(await code(["-u", "nobody-here"], "true"), 125);
  assert.equal(await code(["-w", "/no/such/directory"], "true"), 125);
});

test("stdin is empty unless something is given, and its end is passed on", async () => {
  assert.equal(await bed.ok([...EXEC, "wc", "-c"]), "0\n");
  assert.equal(await bed.ok([...EXEC, "wc", "-c"], { stdin: "" }), "0\n");
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
  const { stdoutBytes } = await bed.hearth([...EXEC, "cat"], { stdin: bytes });
  assert.deepEqual(stdoutBytes, bytes, "binary, and with no newline at its end");
});

test("a command that leaves stdin unread ends all the same", async () => {
  const result = await bed.hearth([...EXEC, "true"], { stdin: Buffer.alloc(8 * 1024 * 1024) });
  assert.equal(result.code, 0, result.stderr);
});

test("sixty parallel commands each get their own answer, and no zombie is left", async () => {
  const vm = (await bed.connect()).vm("box");
  const script = 'read -r line; echo "$line-$1"; exit "$1"';
  const results = await Promise.all(
    Array.from({ length: 60 }, (_, index) =>
      vm.exec(["sh", "-c", script, "sh", String(index)], { input: `line ${index}\n` }),
    ),
  );
  for (const [index, { exitCode, stdout }] of results.entries())
    assert.deepEqual([exitCode, stdout], [index, `line ${index}-${index}\n`]);
  assert.equal(await bed.sh("box", "grep -l '^State:.Z' /proc/[0-9]*/status || true"), "");
});

test("--timeout ends the command with all that it started, and exits with 124", async () => {
  const script = "sleep 31337 & sleep 31337";
  const result = await bed.hearth(["exec", "--timeout", "2s", "box", "--", "sh", "-c", script]);
  assert.equal(result.code, 124, result.stderr);
  await bed.until(async () => !(await commands()).includes("sleep 31337"));
});

describe("a client that goes away", () => {
  test("takes its command with it", async () => {
    const client = bed.start([...EXEC, "sh", "-c", "echo ready; sleep 41414"]);
    await said(client.stdout, /ready/);
    assert.match(await commands(), /sleep 41414/);
    client.kill("SIGKILL");
    await bed.until(async () => !(await commands()).includes("sleep 41414"));
  });

  test("leaves a command that was started with -d", async () => {
    await bed.ok(["exec", "-d", "box", "--", "sleep", "42424"]);
    assert.match(await commands(), /sleep 42424/);
    await bed.sh("box", "kill $(grep -la '^sleep.42424' /proc/[0-9]*/cmdline | cut -d/ -f3)");
  });
});

for (const [signal, number] of [
  ["SIGTERM", 15],
  ["SIGHUP", 1],
  ["SIGUSR1", 10],
] as const) {
  test(`${signal} to the client reaches the command`, async () => {
    const name = signal.slice(3);
    const script = `trap 'echo got ${name}; exit ${number}' ${name}; echo ready; while :; do sleep 0.1; done`;
    const client = bed.start([...EXEC, "sh", "-c", script]);
    await said(client.stdout, /ready/);
    const got = said(client.stdout, new RegExp(`got ${name}`));
    client.kill(signal);
    await got;
    assert.deepEqual(await once(client, "exit"), [number, null]);
  });
}

test("one SIGTERM, or --timeout, ends a client whose VM was paused; the VM is resumed without the command", async () => {
  const script = "echo ready; exec sleep 43434";
  const clients = [bed.start([...EXEC, "sh", "-c", script]), bed.start([...TIMED, "sh", "-c", script])];
  for (const client of clients) await said(client.stdout, /ready/);
  const exits = clients.map((client) => once(client, "exit"));
  await bed.ok(["pause", "box"]);
  clients[0]?.kill("SIGTERM");
  assert.deepEqual(await exits[0], [143, null]);
  assert.deepEqual(await exits[1], [124, null]);
  await bed.ok(["resume", "box"]);
  await bed.until(async () => !(await commands()).includes("sleep 43434"));
});

describe("a terminal", () => {
  /** `script` gives the client a terminal, and prints what it shows. */
  const onTerminal = (script: string, flags: string): Promise<CliResult> => {
    const hearth = [process.execPath, bed.program, "exec", "-it", "box", "--"].join(" ");
    return runCli("script", ["-qec", `${flags}; ${hearth} ${script}`, "/dev/null"], {
      env: { ...bed.env, TERM: "vt100", SHELL: "/bin/sh" },
      stdin: "",
      timeoutMs: 60_000,
    });
  };

  test("has the size of the client's, and one stream", async () => {
    const script = `sh -c 'stty size; tty >&2; echo "$TERM"'`;
    const result = await onTerminal(script, "stty rows 33 cols 77");
    assert.equal(result.code, 0, result.stdout);
    // `script` tells the terminal that its own stdin has ended; a terminal that is not raw yet shows that.
    const shown = result.stdout.replaceAll(/\^[@D]|\u0008/g, "");
    assert.match(shown, /33 77\r\n\/dev\/pts\/\d+\r\nvt100/);
  });

  test("gets every byte as the command wrote it, and the client's is as before at the end", async () => {
    const result = await onTerminal("sh -c 'stty raw; printf \"<a\\nb>\"'; stty -a", "stty sane");
    assert.match(result.stdout, /<a\nb>/);
    assert.match(result.stdout, /(?<!-)\bopost\b/);
    assert.match(result.stdout, /(?<!-)\bicanon\b/);
  });

  test("follows the window's size, takes control characters, and hangs up", async () => {
    const vm = (await bed.connect()).vm("box");
    const script = "trap 'stty size' WINCH; trap 'exit 5' INT; stty size; while :; do sleep 0.1; done";
    const command = await vm.spawn(["sh", "-c", script], {
      tty: { rows: 24, cols: 80, term: "xterm" },
      stdin: true,
    });
    await said(command.stdout, /24 80/);
    const resized = said(command.stdout, /50 132/);
    command.resize({ rows: 50, cols: 132 });
    await resized;
    command.stdin.write("\x03");
    assert.equal((await command.exited).exitCode, 5);
  });
});

test("shell through a pipe reads commands; leaving it leaves the VM", async () => {
  const result = await bed.hearth(["shell", "box"], { stdin: "echo $((6 * 7))\nexit 3\n" });
  assert.equal(result.stdout, "42\n");
  assert.equal(result.code, 3);
  assert.equal((await bed.vm("box")).phase, "running");
});

test("a shell at a terminal is a login shell at home, and the detach keys leave it and end it", async () => {
  const line = `${process.execPath} ${bed.program} shell box`;
  const script = ["-qec", line, "/dev/null"];
  const env = { ...bed.env, TERM: "xterm" };
  const shell = spawn("script", script, { env });
  let shown = "";
  shell.stdout.on("data", (chunk: Buffer) => (shown += chunk.toString()));
  const ended = once(shell, "exit");
  shell.stdin.write("shopt login_shell; echo at-$PWD-$LANG; exec sleep 54321\n");
  await bed.until(async () => (await commands()).includes("sleep 54321"));
  assert.match(shown, /login_shell\s+on/);
  assert.match(shown, /at-\/root-C\.UTF-8/);
  shell.stdin.write("\x10\x11");
  assert.deepEqual((await ended)[0], 129);
  assert.match(shown, /Detached\./);
  await bed.until(async () => !(await commands()).includes("sleep 54321"));
});

/** The words of everything that runs in the guest. */
function commands(): Promise<string> {
  return bed.sh("box", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '");
}
