/** Tests the command as a program, with output that cannot be written. */
import assert from "node:assert/strict";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { test } from "node:test";
import { pack } from "tar-stream";
import { run } from "#host/run.ts";
import { runCli } from "#testing/cli-run.ts";
import type { CliDaemon } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const PROGRAM = join(import.meta.dirname, "../../bin/hearth.ts");

/** Runs `hearth` in a shell with `redirection`. */
async function hearth(daemon: CliDaemon, redirection: string, args: readonly string[]) {
  const script = `"$0" -- "$@" ${redirection}`;
  const result = await run("sh", ["-c", script, process.execPath, PROGRAM, ...args], {
    timeoutMs: 30_000,
    signal: new AbortController().signal,
    env: { HEARTH_HOME: daemon.home },
  });
  return { code: result.ok ? 0 : result.code, stdout: result.stdout, stderr: result.stderr };
}

for (const [args, exit] of [
  [["ls"], 1],
  [["ls", "--json"], 1],
  [["version"], 1],
  [["logs", "web"], 1],
  [["exec", "web", "--", "echo", "hi"], 125],
  [["exec", "--json", "web", "--", "echo", "hi"], 125],
  [["exec", "web", "--", "flood", "3000000"], 125],
  [["cp", "web:/f", "-"], 1],
  [["snapshot", "export", "snap", "-"], 1],
] as const) {
  test(`${args.join(" ")} fails when stdout cannot be written`, async (t) => {
    const served = await serveDaemon(t);
    const { plan, tars } = await served.run("web");
    writeFileSync(join(plan.stateDir, "console.log"), "Linux\n");
    await (await served.client()).snapshots.create({ vm: "web", name: "snap" });
    const tar = pack();
    tar.entry({ name: "f" }, "content");
    tar.finalize();
    tars.set("/f", Buffer.concat(await Readable.from(tar).toArray()));
    const full = await hearth(served, ">/dev/full", args);
    assert.match(full.stderr, /^error: Cannot write to stdout: .*ENOSPC/m);
    assert.equal(full.code, exit);
    const well = await runCli(served, args);
    assert.equal(well.code, 0, well.stderr);
    assert.notEqual(well.stdout, "");
  });
}

test("a command whose stderr cannot be written fails", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  assert.equal((await hearth(served, "2>/dev/full", ["exec", "web", "--", "complain", "hi"])).code, 125);
  assert.equal((await hearth(served, "2>/dev/full", ["show", "gone"])).code, 1);
});

test("a file that takes a part of the output is an error, and not a short file", async (t) => {
  const served = await serveDaemon(t);
  // A file of one block, which is the shell's unit: 512 or 1024 bytes.
  const script = 'trap "" XFSZ; ulimit -f 1; exec "$0" -- "$@" >"$OUT"';
  const out = join(served.home, "out");
  const result = await run("sh", ["-c", script, process.execPath, PROGRAM, "help", "run"], {
    timeoutMs: 30_000,
    signal: new AbortController().signal,
    env: { HEARTH_HOME: served.home, OUT: out },
  });
  assert.equal(result.ok, false);
  assert.match(result.stderr, /Cannot write to stdout/);
  assert.ok(statSync(out).size > 0);
});

test("a reader that has closed the pipe causes no error message", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const gone = await hearth(served, "| true", ["exec", "web", "--", "flood", "3000000"]);
  assert.equal(gone.stderr, "");
});

test("an argument that is not UTF-8 is refused, because it would arrive as a different one", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const script = `"$0" -- "$@" "$(printf 'a\\350')"`;
  const options = {
    timeoutMs: 30_000,
    signal: new AbortController().signal,
    env: { HEARTH_HOME: served.home },
  };
  const args = [process.execPath, PROGRAM, "exec", "web", "--", "echo"];
  const refused = await run("sh", ["-c", script, ...args], options);
  assert.match(refused.stderr, /is not UTF-8/);
  assert.deepEqual(served.commands(), []);
  // The replacement character itself is allowed.
  const taken = await run("sh", ["-c", '"$0" -- "$@"', ...args, "\ufffd"], options);
  assert.equal(taken.stdout, "\ufffd\n");
});

test("a command reads all of a file that is its stdin, and nothing of /dev/null", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const file = join(served.home, "input");
  const text = "0123456789abcdef".repeat(40_000); // More than is read at once, and than a window of stdin.
  writeFileSync(file, text);
  assert.equal((await hearth(served, `<"${file}"`, ["exec", "web", "--", "cat"])).stdout, text);
  const empty = await hearth(served, "</dev/null", ["exec", "web", "--", "cat"]);
  assert.deepEqual([empty.code, empty.stdout], [0, ""]);
});
