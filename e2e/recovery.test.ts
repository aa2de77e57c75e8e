/** hearthd goes and comes back while VMs run. L1, VS-053. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { before, describe, test } from "node:test";
import { endProcess } from "#host/process-end.ts";
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

test("a VM's lifetime goes on while hearthd is away, and ends on time or at the next start", async () => {
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
