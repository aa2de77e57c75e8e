import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { probeKvm } from "#drivers/qemu/probe-kvm.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import { findOrphanVmms } from "#drivers/orphan-vmms.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { isAlive } from "#host/procfs.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import { TINY_READY } from "./tiny-initramfs.ts";
import type { TinyInit } from "./tiny-initramfs.ts";
import { TinyVms } from "./tiny-vms.ts";

const never = new AbortController().signal;
const timing = { heartbeatMs: 100, answerDeadlineMs: 90, terminateMs: 500 };

async function bootTiny(vms: TinyVms, driver: QemuDriver, act: TinyInit, more: Partial<BootPlan> = {}) {
  const plan = await vms.plan(act, more);
  const handle = await driver.boot(plan, () => {}, never);
  return { plan, handle };
}

/** Watches until `enough` says so, or the VMM ends. */
function follow(driver: QemuDriver, handle: VmHandle, onSilent: (silentMs: number) => void = () => {}) {
  const { promise, resolve } = Promise.withResolvers<VmExit>();
  driver.watch(handle, { exited: resolve, silent: onSilent }, never);
  return promise;
}

function consoleOf(plan: BootPlan): string {
  return readFileSync(join(plan.stateDir, "console.log"), "utf8");
}

describe("QEMU, real", { concurrency: false }, () => {
  test("the console is recorded from the first line to the last", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const { plan, handle } = await bootTiny(vms, driver, "power-off");
    const { reason, code } = await follow(driver, handle);
    assert.deepEqual({ reason, code }, { reason: "guest", code: 0 });
    assert.match(consoleOf(plan), new RegExp(`${TINY_READY}[^]*Power down`));
    assert.deepEqual(vms.leftovers(), []);
  });

  test("a guest that reboots ends, because a VM is started anew by hearthd alone", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const { handle } = await bootTiny(vms, driver, "reboot");
    assert.equal((await follow(driver, handle)).reason, "rebooted");
  });

  test("a kernel that panics is told from one that reboots, and its message is in the console's log", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const { plan, handle } = await bootTiny(vms, driver, "panic");
    assert.equal((await follow(driver, handle)).reason, "panicked");
    assert.match(consoleOf(plan), /Attempted to kill init/);
  });

  test("a guest that prints without end fills no more than twice the limit", async () => {
    await using vms = new TinyVms();
    const logMaxBytes = 16 * 1024;
    const driver = new QemuDriver({ timing, logMaxBytes });
    const { plan, handle } = await bootTiny(vms, driver, "flood");
    const log = join(plan.stateDir, "console.log");
    const rotated = (): number => statSync(`${log}.1`, { throwIfNoEntry: false })?.ino ?? 0;
    await until(() => rotated() > 0);
    const first = rotated();
    await until(() => rotated() !== first);
    assert.ok(statSync(log).size <= logMaxBytes);
    assert.ok(statSync(`${log}.1`).size <= logMaxBytes);
    await driver.stop(handle, "kill", never);
  });

  test("a VMM that was stopped from outside is silent, then answers again", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const { handle } = await bootTiny(vms, driver, "wait");
    const heard: number[] = [];
    const exit = follow(driver, handle, (silentMs) => heard.push(silentMs));
    process.kill(handle.processes[0].pid, "SIGSTOP");
    await until(() => (heard.at(-1) ?? 0) >= 2 * timing.heartbeatMs);
    process.kill(handle.processes[0].pid, "SIGCONT");
    await until(() => heard.at(-1) === 0);
    await driver.stop(handle, "terminate", never);
    assert.equal((await exit).reason, "asked");
  });

  test("a VMM that does not take SIGTERM gets SIGKILL", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const { handle } = await bootTiny(vms, driver, "wait");
    process.kill(handle.processes[0].pid, "SIGSTOP");
    // Of two signals that wait, SIGTERM would come first.
    await until(() => /^State:\s+T/m.test(readFileSync(`/proc/${handle.processes[0].pid}/status`, "utf8")));
    const { reason, signal } = await driver.stop(handle, "terminate", never);
    assert.deepEqual({ reason, signal }, { reason: "asked", signal: "SIGKILL" });
    assert.equal(isAlive(handle.processes[0]), false);
    assert.deepEqual(vms.leftovers(), []);
  });

  test("a VMM without a handle is found by its run directory", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const one = await bootTiny(vms, driver, "wait");
    const other = await vms.plan("wait");
    assert.deepEqual(findOrphanVmms(one.plan.runDir), [one.handle.processes[0]]);
    assert.deepEqual(findOrphanVmms(other.runDir), []);
    await driver.stop(one.handle, "kill", never);
  });

  test("what QEMU itself says about a bad disk is in the error, and nothing is left", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const missing = join(vms.dir, "missing.raw");
    const plan = await vms.plan("wait", {
      disks: [{ id: "missing", path: missing, format: "raw", readOnly: false }],
    });
    await assert.rejects(
      driver.boot(plan, () => {}, never),
      (error: HearthError) => {
        assert.equal(error.code, "vmm.failed");
        assert.match(error.message, /exited with code 1/);
        assert.match(String(error.cause), /missing\.raw.*No such file/);
        return true;
      },
    );
    assert.deepEqual(vms.leftovers(), []);
  });

  test("two VMs never write to one disk, and any number reads one base", async () => {
    await using vms = new TinyVms();
    const driver = new QemuDriver({ timing });
    const base = join(vms.dir, "base.raw");
    const disk = join(vms.dir, "disk.raw");
    writeFileSync(base, "");
    truncateSync(base, 1024 ** 2);
    writeFileSync(disk, "");
    truncateSync(disk, 1024 ** 2);
    const read = { id: "base", path: base, format: "raw", readOnly: true } as const;
    const write = { id: "own", path: disk, format: "raw", readOnly: false } as const;
    const first = await bootTiny(vms, driver, "wait", { disks: [read, write] });
    const second = await bootTiny(vms, driver, "wait", { disks: [read] });
    const third = await vms.plan("wait", { disks: [read, write] });
    await assert.rejects(
      driver.boot(third, () => {}, never),
      /exited with code 1/,
    );
    await driver.stop(first.handle, "kill", never);
    await driver.stop(second.handle, "kill", never);
    assert.deepEqual(vms.leftovers(), []);
  });

  test("the next hearthd says in the console's log that lines may be missing", async () => {
    await using vms = new TinyVms();
    const leaving = new AbortController();
    const first = new QemuDriver({ timing });
    const { plan, handle } = await bootTiny(vms, first, "wait");
    first.watch(handle, { exited: () => {}, silent: () => {} }, leaving.signal);
    leaving.abort();
    const second = new QemuDriver({ timing });
    const exit = follow(second, handle);
    await until(() => consoleOf(plan).includes("lines may be missing"));
    await second.stop(handle, "terminate", never);
    await exit;
  });
});

/** For what happens outside of this process and tells nobody. The test's own limit ends it. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
}

test("KVM is judged by a guest that boots with it, and the answer is kept", async () => {
  await using vms = new TinyVms();
  const { kernel, initramfs } = await vms.plan("wait");
  const cacheFile = join(vms.dir, "kvm.json");
  const probe = { cacheFile, kernel, initramfs, readyLine: new RegExp(TINY_READY), version: "test" };
  const verdict = await probeKvm(probe, never);
  assert.ok(verdict.booted || !existsSync("/dev/kvm"));
  if (verdict.booted) assert.deepEqual(await probeKvm(probe, never), { ...verdict, booted: false });
});
