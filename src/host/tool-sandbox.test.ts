/** Runs real tools in the sandbox: actions that work outside of it must fail inside. */
import assert from "node:assert/strict";
import {
  chmodSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { findSandboxHost } from "#host/sandbox-host.ts";
import { ToolSandbox } from "#host/tool-sandbox.ts";
import type { ToolRun } from "#host/tool-sandbox.ts";
import { TOOL_SANDBOX, TOOL_UID } from "#testing/tools.ts";

const skip = await findSandboxHost({ subject: "tools" }, new AbortController().signal).then(
  () => false,
  (error: Error) => `no sandbox here: ${error.message}`,
);
const isRoot = process.geteuid?.() === 0;

function newDir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "hearth-tools-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

function shell(script: string, more: Partial<ToolRun> = {}): ToolRun {
  return {
    program: "sh",
    args: ["-c", script],
    reads: [],
    writes: [],
    fileMaxBytes: 4096,
    timeoutMs: 20_000,
    ...more,
  };
}

describe("a tool in its sandbox", { skip }, () => {
  test("reads its files, and no other files of the host", async (t) => {
    const dir = newDir(t);
    const [given, other] = [join(dir, "given"), join(dir, "other")];
    for (const path of [given, other]) writeFileSync(path, "words", { mode: 0o444 });
    const script = `cat ${given}; cat ${other} || echo none; ls -A ${dir} /etc /proc 2>&1 | wc -l`;
    assert.equal(
      (
        await runOrThrow("sh", ["-c", `cat ${given} ${other}`], { timeoutMs: 20_000, signal: t.signal })
      ).trim(),
      "wordswords",
    );
    const said = await TOOL_SANDBOX.run(shell(script, { reads: [given] }), t.signal);
    assert.match(said, /^wordsnone\n/);
    await assert.rejects(TOOL_SANDBOX.run(shell(`echo x > ${given}`, { reads: [given] }), t.signal), {
      code: "host.tool_failed",
      message: /^`sh -c` failed with/,
    });
  });

  test("writes its files up to their limit, and nothing else; hearthd owns them again afterwards", async (t) => {
    const dir = newDir(t);
    const out = join(dir, "out");
    writeFileSync(out, "", { mode: 0o600 });
    await TOOL_SANDBOX.run(shell(`id -u > ${out}`, { writes: [out] }), t.signal);
    assert.equal(readFileSync(out, "utf8"), `${isRoot ? TOOL_UID : process.geteuid?.()}\n`);
    assert.equal(statSync(out).uid, process.geteuid?.());
    const tooMuch = shell(`head -c 8192 /dev/zero > ${out}`, { writes: [out] });
    await assert.rejects(TOOL_SANDBOX.run(tooMuch, t.signal), { code: "host.tool_failed" });
    assert.ok(statSync(out).size <= 4096);
    await assert.rejects(TOOL_SANDBOX.run(shell("echo > /new"), t.signal), { code: "host.tool_failed" });
    await assert.rejects(TOOL_SANDBOX.run(shell(`echo > ${dir}/new`, { writes: [out] }), t.signal));
    assert.equal(statSync(out).uid, process.geteuid?.(), "also after one that failed");
  });

  test("reaches no server, not even one on the host", async (t) => {
    const server = createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
    t.after(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    const script = `exec 3<>/dev/tcp/127.0.0.1/${port} && cat <&3`;
    const outside = await runOrThrow("bash", ["-c", script], { timeoutMs: 20_000, signal: t.signal });
    assert.equal(outside, "hello", "the probe works");
    const inside = { ...shell(script), program: "bash" };
    await assert.rejects(TOOL_SANDBOX.run(inside, t.signal), (error: Error) =>
      /Connection refused|unreachable/.test(String((error.cause as Error).message)),
    );
  });

  test("takes no more memory and no more time than its limits", async (t) => {
    const buffer = (size: string): ToolRun => shell(`dd if=/dev/zero of=/dev/null bs=${size} count=1`);
    await TOOL_SANDBOX.run(buffer("1M"), t.signal);
    await assert.rejects(TOOL_SANDBOX.run(buffer("3G"), t.signal), (error: Error) =>
      /memory exhausted/.test(String((error.cause as Error).message)),
    );
    await assert.rejects(TOOL_SANDBOX.run(shell("sleep 1000", { timeoutMs: 500 }), t.signal), {
      message: /`sh -c` did not finish in 500 ms/,
    });
  });

  test("gets no link, and no file with a second name", async (t) => {
    const dir = newDir(t);
    const [secret, link, second] = ["secret", "link", "second"].map((name) => join(dir, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(secret, "secret", { mode: 0o600 });
    symlinkSync(secret, link);
    await assert.rejects(TOOL_SANDBOX.run(shell("true", { writes: [link] }), t.signal), { code: "ELOOP" });
    linkSync(secret, second);
    await assert.rejects(TOOL_SANDBOX.run(shell("true", { writes: [second] }), t.signal), {
      code: "path.unmanaged",
    });
    assert.equal(statSync(secret).uid, process.geteuid?.());
    if (isRoot)
      await assert.rejects(TOOL_SANDBOX.run(shell("true", { reads: [secret] }), t.signal), {
        code: "internal.bug",
      });
    chmodSync(secret, 0o444);
    await TOOL_SANDBOX.run(shell("true", { reads: [secret] }), t.signal);
  });

  test("returns its uid, also when it fails", async (t) => {
    let leases = 0;
    const sandbox = new ToolSandbox(async () => {
      if (!isRoot) return undefined;
      leases += 1;
      return { uid: TOOL_UID, [Symbol.asyncDispose]: async () => void (leases -= 1) };
    });
    await sandbox.run(shell("true"), t.signal);
    await assert.rejects(sandbox.run(shell("false"), t.signal), { code: "host.tool_failed" });
    await assert.rejects(sandbox.run(shell("true"), AbortSignal.abort()), Error);
    assert.equal(leases, 0);
  });
});

test("a tool that is not installed is named with the package that contains it", async (t) => {
  const tool = { ...shell("true"), program: "no-such-tool" };
  await assert.rejects(TOOL_SANDBOX.run(tool, t.signal), { code: "host.tool_missing", hint: /no-such-tool/ });
});
