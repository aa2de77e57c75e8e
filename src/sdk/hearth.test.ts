import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hearthDirs } from "#base/hearth-dirs.ts";
import { Hearth } from "#sdk/hearth.ts";
import { startDaemon } from "#sdk/start-daemon.ts";
import { serveDaemon } from "#testing/served-daemon.ts";
import type { ServedDaemon } from "#testing/served-daemon.ts";

/** Node's default backlog. Beyond it the kernel answers EAGAIN. */
const LISTEN_BACKLOG = 511;

async function withVm(served: ServedDaemon) {
  await served.run("web");
  return (await served.client()).vm("web");
}

test("a program creates a VM, runs a command and removes the VM", async (t) => {
  const served = await serveDaemon(t);
  const hearth = await Hearth.connect({ env: { HEARTH_HOME: served.home } });
  const vm = await hearth.vms.create({ image: "debian", name: "web" });
  await vm.start();
  assert.deepEqual(await vm.exec(["echo", "hi"]), {
    exitCode: 0,
    timedOut: false,
    stdout: "hi\n",
    stderr: "",
  });
  assert.deepEqual(
    (await hearth.vms.list()).map(({ name }) => name),
    ["web"],
  );
  await vm.remove({ force: true });
  await assert.rejects(hearth.vms.get("web"), { code: "vm.not_found", hint: /hearth ls/ });
});

test("exec passes input, reports exit codes, and fails when the output exceeds its limit", async (t) => {
  const served = await serveDaemon(t);
  const vm = await withVm(served);
  assert.equal((await vm.exec(["cat"], { input: "a\u0000b" })).stdout, "a\u0000b");
  assert.equal((await vm.exec(["exit", "7"])).exitCode, 7);
  assert.equal((await vm.exec(["kill", "9"])).signal, 9);
  await assert.rejects(vm.exec(["missing"]), { code: "exec.not_found" });
  await assert.rejects(vm.exec(["flood", "300000"], { maxOutputBytes: 100_000 }), { hint: /maxOutputBytes/ });
});

test("a spawned command takes more input than its window, and its output comes back whole", async (t) => {
  const served = await serveDaemon(t);
  const vm = await withVm(served);
  await using command = await vm.spawn(["cat"], { stdin: true });
  const bytes = 5 * 1024 * 1024 + 1;
  command.stdin.end(Buffer.alloc(bytes, "x"));
  let read = 0;
  for await (const chunk of command.stdout as AsyncIterable<Buffer>) read += chunk.byteLength;
  assert.equal(read, bytes);
  assert.equal((await command.exited).exitCode, 0);
});

test("more requests at once than hearthd's backlog holds are all answered", async (t) => {
  const hearth = await (await serveDaemon(t)).client();
  const asked = Array.from({ length: LISTEN_BACKLOG + 50 }, () => hearth.daemon.status());
  for (const { vms } of await Promise.all(asked)) assert.equal(vms, 0);
});

test("a hundred commands at once all come back", async (t) => {
  const vm = await withVm(await serveDaemon(t));
  const words = Array.from({ length: 100 }, (_, n) => String(n));
  const results = await Promise.all(words.map((word) => vm.exec(["echo", word])));
  assert.deepEqual(
    results.map(({ stdout }) => stdout.trim()),
    words,
  );
});

test("closing the connection kills the command, and aborting it rejects", async (t) => {
  const served = await serveDaemon(t);
  const vm = await withVm(served);
  {
    await using command = await vm.spawn(["wait"]);
    assert.equal(command.pid, 42);
  }
  await served.until(() => served.commands()[0]?.state === "left");
  const controller = new AbortController();
  const command = await vm.spawn(["wait"], { signal: controller.signal });
  controller.abort();
  await assert.rejects(command.exited, { code: "operation.cancelled" });
  await served.until(() => served.commands()[1]?.state === "left");
});

test("a run reports its VM and its progress before the command starts", async (t) => {
  const served = await serveDaemon(t);
  const hearth = await served.client();
  const told: string[] = [];
  const request = { vm: { image: "debian", name: "web" }, exec: { argv: ["echo", "x"] } };
  const onProgress = ({ text }: { text: string }) => void told.push(text);
  await using command = await hearth.run(request, { onProgress, onVm: ({ name }) => void told.push(name) });
  assert.equal(command.vm?.name, "web");
  assert.deepEqual(told.slice(-3), ["starting the VMM", "starting the fake", "waiting for the guest"]);
  assert.ok(told.includes("web"));
});

test("without autostart, connecting fails with a hint that says how to start hearthd", async () => {
  const env = { HEARTH_HOME: "/tmp/hearth-nowhere" };
  await assert.rejects(Hearth.connect({ env, autostart: false }), {
    code: "daemon.unreachable",
    hint: /hearth daemon start/,
  });
  await assert.rejects(Hearth.connect({ env: { HEARTH_HOME: `/${"x".repeat(120)}` } }), {
    code: "host.path_too_long",
  });
});

/** Fakes hearthd with a few lines of JavaScript. */
function daemonOf(source: string) {
  const home = mkdtempSync(join(tmpdir(), "hearth-start-"));
  const entry = join(home, "hearthd.mjs");
  writeFileSync(entry, source);
  const env = { HEARTH_HOME: home };
  const dirs = hearthDirs(env, "/");
  return {
    home,
    dirs,
    env,
    entry,
    [Symbol.dispose]: () => rmSync(home, { recursive: true, force: true }),
  };
}

const SERVER = `
import { createServer } from "node:http";
createServer((request, response) => {
  response.end(JSON.stringify({ pid: process.pid }), () => setImmediate(() => process.exit(0)));
}).listen(process.env.HEARTH_HOME + "/run/hearthd.sock");
`;

test("hearthd is started and waited for, and the log of a good start is deleted", async () => {
  using daemon = daemonOf(SERVER);
  await startDaemon(daemon);
  assert.deepEqual(
    readdirSync(daemon.dirs.run).filter((name) => name.endsWith(".log")),
    [],
  );
});

test("a hearthd that finds the lock taken by another one, which is not up yet, is not a failure", async () => {
  const body = { error: { code: "host.lock_held", message: "Another hearthd runs already." } };
  // The other hearthd listens several polls after this one has ended.
  const other = `const left = setInterval(() => {
    if (process.ppid === Number(process.env.PARENT)) return;
    clearInterval(left);
    setTimeout(() => { ${SERVER.replace(/^import.*$/m, 'const { createServer } = process.getBuiltinModule("node:http");')} }, 90);
  }, 5);`;
  using daemon = daemonOf(`
    import { spawn } from "node:child_process";
    const env = { ...process.env, PARENT: String(process.pid) };
    spawn(process.execPath, ["-e", ${JSON.stringify(other)}], { env, detached: true, stdio: "ignore" }).unref();
    console.error(${JSON.stringify(JSON.stringify(body))});
    process.exit(1);
  `);
  await startDaemon(daemon);
});

test("hearthd is started again if the one that had the lock never comes up", async () => {
  const body = { error: { code: "host.lock_held", message: "Another hearthd runs already." } };
  using daemon = daemonOf(`
    import { existsSync, writeFileSync } from "node:fs";
    const been = process.env.HEARTH_HOME + "/been";
    if (!existsSync(been)) {
      writeFileSync(been, "");
      console.error(${JSON.stringify(JSON.stringify(body))});
      process.exit(1);
    }
    ${SERVER}
  `);
  await startDaemon(daemon);
});

test("a hearthd that does not answer in time is an error that names its log, and a signal ends the wait", async () => {
  using daemon = daemonOf("setTimeout(() => undefined, 500);");
  const late = { code: "daemon.start_failed", hint: /Its output is in .*\.log/ };
  await assert.rejects(startDaemon({ ...daemon, timeoutMs: 20 }), late);
  await assert.rejects(startDaemon(daemon, AbortSignal.abort(new Error("enough"))), { message: "enough" });
});

test("what hearthd says when it cannot start becomes the error", async () => {
  const body = { error: { code: "store.too_new", message: "The store is newer.", hint: "Upgrade." } };
  using daemon = daemonOf(`console.error(${JSON.stringify(JSON.stringify(body))}); process.exit(1);`);
  await assert.rejects(startDaemon(daemon), { code: "store.too_new", hint: "Upgrade." });
});

test("the error of a hearthd that crashes at its start has its stderr tail", async () => {
  using daemon = daemonOf(`throw new Error("no such luck");`);
  await assert.rejects(startDaemon(daemon), (error: Error) => {
    assert.match(String((error.cause as Error).message), /no such luck/);
    return true;
  });
});

test("a directory that cannot be created is an error with a fix", async () => {
  using daemon = daemonOf(SERVER);
  writeFileSync(daemon.dirs.run, "in the way");
  await assert.rejects(startDaemon(daemon), { code: "daemon.start_failed", hint: /HEARTH_HOME/ });
});
