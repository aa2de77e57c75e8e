/** Ends a VM's guest from inside, in each of the ways that a guest has. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Bed } from "./bed.ts";
import type { CliResult } from "./run-cli.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
/** reboot(2) at once, as `reboot -f` and `poweroff -f` do, which the image does not have. */
const end = (command: "0x1234567" | "0x4321fedc"): string =>
  `sync; perl -e 'syscall(169, 0xfee1dead, 672274793, ${command}, 0)'`;
const REBOOT = end("0x1234567");
const POWER_OFF = end("0x4321fedc");
const PANIC = "sync; echo c > /proc/sysrq-trigger";

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
});

function run(script: string): Promise<CliResult> {
  return bed.hearth(["exec", "web", "--", "sh", "-c", script]);
}

test("a guest that reboots is started again, with its disk, whatever the restart policy is", async () => {
  const { pid, restart } = await bed.vm("web");
  assert.equal(restart, "no");
  const { code, stderr } = await run(`echo kept > /root/kept; ${REBOOT}`);
  assert.equal(code, 125);
  assert.match(stderr, /^error: web was rebooted by its guest\.$/m);
  await bed.until(async () => {
    const vm = await bed.vm("web");
    return vm.phase === "running" && vm.pid !== pid;
  });
  assert.equal(await bed.sh("web", "cat /root/kept"), "kept\n");
  const { startStages = [] } = await bed.vm("web");
  assert.deepEqual(
    startStages.map(({ stage }) => stage),
    ["host", "disk", "vmm", "guest", "identity"],
  );
  assert.match(
    await bed.ok(["show", "web"]),
    /^start took +\d+ms: host \d+ms, .* guest \d+ms, identity \d+ms$/m,
  );
  assert.match(bed.log(), /"reason":"rebooted"/);
});

test("a guest that powers itself off stays down, and show says how it ended", async () => {
  const { code, stderr } = await run(POWER_OFF);
  assert.equal(code, 125);
  assert.match(stderr, /^error: web was powered off by its guest\.$/m);
  await bed.until(async () => (await bed.vm("web")).phase === "stopped");
  assert.equal((await bed.vm("web")).exit?.reason, "guest");
  assert.match(await bed.ok(["show", "web"]), /^ended +.*powered off by the guest/m);
  assert.deepEqual(bed.vmms(), []);
});

test("of two commands that start a VM at once both succeed", async () => {
  await Promise.all([bed.ok(["start", "web"]), bed.ok(["start", "web"])]);
  assert.equal((await bed.vm("web")).phase, "running");
});

test("a signal to PID 1 that means nothing to it leaves the guest running", async () => {
  assert.equal(await bed.sh("web", "kill -HUP 1; kill -QUIT 1; sleep 0.1; echo runs"), "runs\n");
});

test("a guest whose kernel panics has failed, with the kernel's message in the command's error", async () => {
  const { code, stderr } = await run(PANIC);
  assert.equal(code, 125);
  assert.match(
    stderr,
    /^error: The guest kernel panicked: Kernel panic - not syncing: sysrq triggered crash/m,
  );
  assert.match(stderr, /^hint: See `hearth logs web`\.$/m);
  await bed.until(async () => (await bed.vm("web")).phase === "failed");
  assert.equal((await bed.vm("web")).lastError?.code, "vm.panicked");
  assert.match(await bed.ok(["logs", "web"]), /sysrq triggered crash/);
});

test("a reboot ends the VM of a command, and an earlier panic on its console is not taken for its own", async () => {
  await bed.ok(["start", "web"]);
  await run("sync; echo b > /proc/sysrq-trigger");
  await bed.until(async () => (await bed.vm("web")).phase === "running");
  await bed.ok(["rm", "-f", "web"]);
  const once = await bed.hearth(["run", "--name", "once", ...SMALL, "debian", "--", "sh", "-c", REBOOT]);
  assert.equal(once.code, 125);
  assert.match(once.stderr, /^error: once was rebooted by its guest\.$/m);
  assert.deepEqual([(await bed.vm("once")).phase, bed.vmms().length], ["stopped", 0]);
});
