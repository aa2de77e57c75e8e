/** hearthd goes and comes back while VMs run. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { before, describe, test } from "node:test";
import { endProcess } from "#host/process-end.ts";
import { findProcess } from "#host/procfs.ts";
import type { Hearth } from "#sdk/hearth.ts";
import { Bed } from "./bed.ts";
import { said } from "./said.ts";

const bed = new Bed();
const BOOT_ID = "cat /proc/sys/kernel/random/boot_id";

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["create", "--name", "web", "debian"]);
});

/** As by a crash, or by the kernel when memory is short. */
async function killDaemon(): Promise<void> {
  const daemon = bed.daemon();
  assert.ok(daemon, "hearthd runs");
  await endProcess(daemon, 0, AbortSignal.timeout(10_000));
}

for (const [how, end] of [
  ["kill -9 of hearthd", killDaemon],
  ["daemon stop", async () => void (await bed.ok(["daemon", "stop"]))],
] as const) {
  test(`after ${how} the VM is the same one: pid, boot_id, commands, console`, async () => {
    const { pid } = await bed.vm("web");
    const bootId = await bed.sh("web", BOOT_ID);
    const old = bed.daemon()?.pid;
    await end();
    assert.deepEqual(
      bed.vmms().map((vmm) => vmm.pid),
      [pid],
      "it runs while no hearthd does",
    );
    const vm = await bed.vm("web"); // Starts a new hearthd.
    assert.deepEqual([vm.phase, vm.pid], ["running", pid]);
    assert.notEqual(bed.daemon()?.pid, old);
    assert.equal(await bed.sh("web", BOOT_ID), bootId);
    const mark = `mark after ${how}`;
    await bed.sh("web", `echo '${mark}' > /dev/console`);
    await bed.until(async () => (await bed.ok(["logs", "web"])).includes(mark));
    await bed.ok(["pause", "web"]);
    await bed.ok(["resume", "web"]);
    assert.equal(await bed.sh("web", "echo alive"), "alive\n");
  });
}

describe("a foreground run when hearthd is killed", () => {
  test("ends with 125 and a clear error; its --rm VM is gone after the next start", async () => {
    const run = bed.start(["run", "--rm", "debian", "--", "sh", "-c", "echo ready; sleep 1000"]);
    await said(run.stdout, /ready/);
    const told = said(run.stderr, /^error: .*\n(.*\n)*hint: /m);
    const exit = once(run, "exit");
    await killDaemon();
    await told;
    assert.deepEqual(await exit, [125, null]);
    assert.deepEqual(
      (await bed.vms()).map(({ name }) => name),
      ["web"],
    );
    assert.equal(bed.vmms().length, 1);
  });

  test("an exec that was under way ends with an error, and its process in the guest with it", async () => {
    const command = bed.start(["exec", "web", "--", "sh", "-c", "echo ready; sleep 51515"]);
    await said(command.stdout, /ready/);
    const exit = once(command, "exit");
    await killDaemon();
    assert.deepEqual(await exit, [125, null]);
    const running = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    await bed.until(async () => !(await bed.sh("web", running)).includes("sleep 51515"));
  });
});

test("SIGTERM ends hearthd in 10 s with everything open; clients are told, and VMs run on", async () => {
  const { pid } = await bed.vm("web");
  await bed.sh("web", "truncate -s 20G /big");
  const events = followEvents(await bed.connect());
  const run = await open(["run", "--rm", "debian", "--", "sh", "-c", "echo ready; sleep 1000"]);
  const exec = await open(["exec", "web", "--", "sh", "-c", "echo ready; sleep 1000"]);
  const shell = await open(["shell", "web"], "echo ready\n");
  const logs = await open(["logs", "-f", "web"], "", /./);
  // To nowhere: a disk that is busy with twenty gigabytes would keep hearthd from closing its store.
  const copy = await open(["cp", "web:/big", "-"], "", /big/);
  const snapshot = await open(["snapshot", "create", "web", "half"], "", null);
  await said(snapshot.command.stderr, /saving/);

  const daemon = bed.daemon();
  assert.ok(daemon);
  process.kill(daemon.pid, "SIGTERM");
  const late = AbortSignal.timeout(10_000);
  await bed.until(() => late.aborted || findProcess(daemon.pid)?.startTicks !== daemon.startTicks);
  assert.equal(late.aborted, false, "it has not ended in 10 s");
  const { stdout: why } = await bed.hearth(["daemon", "logs"]);
  const ends = async ({ exited }: typeof run, how: RegExp): Promise<void> => {
    const told = await exited;
    assert.match(told, how, `${told}\nThe log of hearthd ends with:\n${why.slice(-2_000)}`);
  };
  for (const command of [run, exec, shell]) await ends(command, /^125 .*hearthd is stopping/s);
  for (const command of [logs, copy]) await ends(command, /^1 .*hearthd ended its response/s);
  await ends(snapshot, /^1 .*hearthd is stopping/s);
  assert.equal((await events).at(-1), "daemon.stopping");

  assert.deepEqual(
    (await bed.vms()).map((vm) => [vm.name, vm.phase, vm.pid]),
    [["web", "running", pid]],
  );
  assert.equal(await bed.sh("web", "echo alive; rm /big"), "alive\n");
  assert.equal(await bed.ok(["snapshot", "ls", "--json"]), "[]\n");
  assert.equal(bed.vmms().length, 1);
});

/** A command that has begun, and its exit code with what it said on stderr. */
async function open(args: readonly string[], input = "", ready: RegExp | null = /ready/) {
  const command = bed.start(args);
  command.stdin.write(input);
  let stderr = "";
  command.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const exited = once(command, "close").then(([code]) => `${code} ${stderr}`);
  if (ready === null) command.stdout.resume();
  else await said(command.stdout, ready);
  return { command, exited };
}

/** The types of all events, until the stream ends. */
async function followEvents(hearth: Hearth): Promise<string[]> {
  const types: string[] = [];
  for await (const { type } of hearth.events()) types.push(type);
  return types;
}

test("a VM whose QEMU died while no hearthd ran is failed, with the reason, and starts again", async () => {
  await bed.ok(["daemon", "stop"]);
  const [vmm] = bed.vmms();
  assert.ok(vmm);
  await endProcess(vmm, 0, AbortSignal.timeout(10_000));
  const vm = await bed.vm("web");
  assert.ok(["failed", "stopped"].includes(vm.phase), vm.phase);
  await bed.ok(["start", "web"]);
  assert.equal(await bed.sh("web", "echo alive"), "alive\n");
});

test("a VM's lifetime continues while hearthd is away, and ends on time or at the next start", async () => {
  await bed.ok(["create", "--name", "short", "--timeout", "6s", "debian"]);
  await killDaemon();
  await bed.until(async () => (await bed.vm("short")).phase === "stopped");
  await bed.ok(["rm", "short"]);
});

test("eight commands at once start one hearthd", async () => {
  await bed.ok(["daemon", "stop"]);
  const lists = await Promise.all(Array.from({ length: 8 }, () => bed.hearth(["daemon", "start"])));
  for (const { code, stderr } of lists) assert.equal(code, 0, stderr);
  const status = await Promise.all([1, 2].map(() => bed.ok(["daemon", "status", "--json"])));
  const pids = status.map((text) => (JSON.parse(text) as { pid: number }).pid);
  assert.equal(new Set(pids).size, 1);
});

test("daemon status says when none runs, and starts none", async () => {
  await bed.ok(["daemon", "stop"]);
  assert.equal((await bed.hearth(["daemon", "status"])).code, 1);
  assert.equal(bed.daemon(), undefined);
  await bed.ok(["daemon", "start"]);
  await bed.ok(["rm", "-f", "web"]);
  assert.deepEqual(bed.leftovers(), []);
});
