/** Takes one VM through every verb, and every way in which it ends. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Bed } from "./bed.ts";

const bed = new Bed();
const BOOT_ID = "cat /proc/sys/kernel/random/boot_id";

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["create", "--name", "web-1", "--disk", "512M", "debian"]);
});

describe("the VM's name is in", () => {
  for (const [place, script, expected] of [
    ["the hostname", "hostname", /^web-1\n$/],
    ["/etc/hostname", "cat /etc/hostname", /^web-1\n$/],
    ["/etc/hosts", "cat /etc/hosts", /^127\.0\.\d\.1\s.*\bweb-1\b/m],
    ["the kernel's command line", "cat /proc/cmdline", /\bhearth\.vm=web-1\b/],
  ] as const) {
    test(place, async () => assert.match(await bed.sh("web-1", script), expected));
  }
});

test("100 MB that were just written are there after stop and start", async () => {
  await bed.sh("web-1", "head -c 100000000 /dev/urandom > /root/big");
  const sum = await bed.sh("web-1", "sha256sum /root/big");
  await bed.sh("web-1", "head -c 1000000 /dev/urandom | tee /root/last | sha256sum > /root/last.sum");
  await bed.ok(["stop", "web-1"]);
  const { phase, exit } = await bed.vm("web-1");
  assert.deepEqual([phase, exit?.reason], ["stopped", "asked"]);
  assert.deepEqual(bed.vmms(), []);
  await bed.ok(["start", "web-1"]);
  assert.equal(await bed.sh("web-1", "sha256sum /root/big"), sum);
  assert.equal(await bed.sh("web-1", "sha256sum < /root/last | cmp - /root/last.sum; rm /root/big"), "");
});

test("set changes CPUs, memory and disk of a stopped VM, and the guest sees them", async () => {
  const refused = await bed.hearth(["set", "web-1", "--cpus", "3"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /hint: Stop it first: `hearth stop web-1`/);
  const kbBefore = Number(await bed.sh("web-1", "df -k --output=size / | tail -1"));
  await bed.ok(["stop", "web-1"]);
  await bed.ok(["set", "web-1", "--cpus", "4", "--memory", "384M", "--disk", "1G"]);
  const smaller = await bed.hearth(["set", "web-1", "--disk", "512M"]);
  assert.equal(smaller.code, 2);
  assert.match(smaller.stderr, /cannot shrink/);
  await bed.ok(["start", "web-1"]);
  assert.equal(await bed.sh("web-1", "nproc"), "4\n");
  const memoryKb = Number(await bed.sh("web-1", "awk '/^MemTotal/ { print $2 }' /proc/meminfo"));
  assert.ok(memoryKb > 300 * 1024 && memoryKb < 384 * 1024, `${memoryKb} kB`);
  const kbAfter = Number(await bed.sh("web-1", "df -k --output=size / | tail -1"));
  assert.ok(kbAfter > 1.8 * kbBefore, `${kbBefore} kB grew to ${kbAfter} kB`);
  assert.equal(await bed.sh("web-1", "sha256sum < /root/last | cmp - /root/last.sum"), "");
});

test("restart boots anew: another boot_id, the same disk", async () => {
  const bootId = await bed.sh("web-1", `touch /root/kept; ${BOOT_ID}`);
  await bed.ok(["restart", "web-1"]);
  assert.notEqual(await bed.sh("web-1", BOOT_ID), bootId);
  assert.equal(await bed.sh("web-1", "ls /root/kept"), "/root/kept\n");
});

test("pause stops the guest's clock, refuses commands with the fix, and resume continues the same boot", async () => {
  const uptimeMs = async (): Promise<number> =>
    1000 * Number((await bed.sh("web-1", "cut -d' ' -f1 /proc/uptime")).trim());
  const bootId = await bed.sh("web-1", BOOT_ID);
  const guestBefore = await uptimeMs();
  await bed.ok(["pause", "web-1"]);
  const pausedAt = performance.now();
  assert.equal((await bed.vm("web-1")).phase, "paused");
  const refused = await bed.hearth(["exec", "web-1", "--", "true"]);
  assert.equal(refused.code, 125);
  assert.match(refused.stderr, /hint: Resume it first: `hearth resume web-1`/);
  await bed.until(() => performance.now() - pausedAt > 5_000);
  const pausedMs = performance.now() - pausedAt;
  const resumedAt = performance.now();
  await bed.ok(["resume", "web-1"]);
  const guestRan = (await uptimeMs()) - guestBefore;
  // It ran for a moment before the pause and after it; a clock that was not stopped shows all of it.
  const slackMs = performance.now() - resumedAt + 2_000;
  assert.ok(guestRan < pausedMs + slackMs - 2_500, `${guestRan} ms in the guest, ${pausedMs} ms of pause`);
  assert.equal(await bed.sh("web-1", BOOT_ID), bootId);
});

test("stop of a paused VM lets it flush", async () => {
  await bed.sh("web-1", "echo unflushed > /root/paused");
  await bed.ok(["pause", "web-1"]);
  await bed.ok(["stop", "web-1"]);
  await bed.ok(["start", "web-1"]);
  assert.equal(await bed.sh("web-1", "cat /root/paused"), "unflushed\n");
});

test("kill leaves it stopped, not failed, and it starts again", async () => {
  await bed.ok(["kill", "--signal", "KILL", "web-1"]);
  const { phase, exit } = await bed.vm("web-1");
  assert.deepEqual([phase, exit?.reason, exit?.signal], ["stopped", "asked", "SIGKILL"]);
  assert.deepEqual(bed.vmms(), []);
  await bed.ok(["start", "web-1"]);
});

test("kill -9 of the agent in the guest: it is PID 1 and keeps running, and ls says so", async () => {
  await bed.sh("web-1", "kill -9 1");
  assert.equal((await bed.vm("web-1")).phase, "running");
  assert.equal(await bed.sh("web-1", "echo alive"), "alive\n");
});

test("a guest that powers itself off is stopped, and that is the reason", async () => {
  await bed.hearth(["exec", "-d", "web-1", "--", "sh", "-c", "sync; echo o > /proc/sysrq-trigger"]);
  await bed.until(async () => (await bed.vm("web-1")).phase === "stopped");
  assert.equal((await bed.vm("web-1")).exit?.reason, "guest");
  await bed.ok(["start", "web-1"]);
});

test("kill -9 of QEMU: the VM failed, show says why, nothing is left, and start works again", async () => {
  const { pid } = await bed.vm("web-1");
  assert.ok(pid);
  process.kill(pid, "SIGKILL");
  await bed.until(async () => (await bed.vm("web-1")).phase === "failed");
  assert.match((await bed.vm("web-1")).lastError?.message ?? "", /SIGKILL/);
  assert.deepEqual(bed.vmms(), []);
  const refused = await bed.hearth(["exec", "web-1", "--", "true"]);
  assert.match(refused.stderr, /hint: Look at `hearth logs web-1`, then start it again/);
  await bed.ok(["start", "web-1"]);
  assert.equal(await bed.sh("web-1", "cat /root/paused"), "unflushed\n");
});

test("a program that ignores SIGTERM does not keep the guest from stopping cleanly", async () => {
  await bed.ok(["exec", "-d", "web-1", "--", "sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done"]);
  await bed.sh("web-1", "echo flushed > /root/deaf");
  await bed.ok(["stop", "--time", "10s", "web-1"]);
  assert.equal((await bed.vm("web-1")).exit?.signal, undefined, "the guest powered off by itself");
  await bed.ok(["start", "web-1"]);
  assert.equal(await bed.sh("web-1", "cat /root/deaf"), "flushed\n");
});

test("a guest that hangs is ended all the same", async () => {
  const { pid } = await bed.vm("web-1");
  assert.ok(pid);
  process.kill(pid, "SIGSTOP"); // It answers nothing now, and heeds no SIGTERM.
  await bed.ok(["stop", "--time", "1s", "web-1"]);
  assert.equal((await bed.vm("web-1")).phase, "stopped");
  assert.deepEqual(bed.vmms(), []);
});

test("prune -f removes what does not run and nothing else", async () => {
  await bed.ok(["create", "--name", "runs", "debian"]);
  await bed.ok(["create", "--no-start", "--name", "idle", "debian"]);
  await bed.ok(["prune", "-f"]);
  assert.deepEqual(
    (await bed.vms()).map(({ name, phase }) => `${name} ${phase}`),
    ["runs running"],
  );
});

test("a VM with --restart always comes back after its VMM died and after a power-off, and not after stop", async () => {
  await bed.ok(["create", "--name", "service", "--restart", "always", "debian"]);
  const restartsAfterReboot = async (gone: number | undefined): Promise<number | undefined> => {
    let vm = await bed.vm("service");
    await bed.until(async () => (vm = await bed.vm("service")).phase === "running" && vm.pid !== gone);
    return vm.pid;
  };
  const { pid } = await bed.vm("service");
  assert.ok(pid);
  process.kill(pid, "SIGKILL");
  const second = await restartsAfterReboot(pid);
  await bed.ok(["exec", "-d", "service", "--", "sh", "-c", "echo o > /proc/sysrq-trigger"]);
  await restartsAfterReboot(second);
  await bed.ok(["stop", "service"]);
  const vm = await bed.vm("service");
  assert.deepEqual([vm.phase, vm.desired, vm.restart], ["stopped", "stopped", "always"]);
  await bed.ok(["rm", "service"]);
});

test("rm refuses a VM that runs, and takes it with -f", async () => {
  const refused = await bed.hearth(["rm", "runs"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /hint: .*(stop runs|rm -f)/);
  await bed.ok(["rm", "-f", "runs"]);
  assert.deepEqual(await bed.vms(), []);
  assert.deepEqual(bed.leftovers(), []);
});
