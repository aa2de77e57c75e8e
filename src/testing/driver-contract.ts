/** Tests the promises of every driver, including the fake one, with one suite. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { inTime } from "#base/deadline.ts";
import { blockEventLoop } from "#base/event-loop.ts";
import { MIB } from "#base/sizes.ts";
import type { DiskPlan, RunSpec, VmDriver } from "#drivers/vm-driver.ts";
import type { ProcessId, VmExit, VmHandle } from "#model/vm-handle.ts";
import { NETWORKS } from "#model/vm-spec.ts";
import { NOT_OFFERED } from "#testing/contract-host.ts";
import type { Check, ContractHost, GuestAct } from "#testing/contract-host.ts";
import { ContractRecord } from "#testing/contract-record.ts";
import { SHARED_MEMORY_PROMISES } from "#testing/shared-memory-contract.ts";
import { SNAPSHOT_PROMISES } from "#testing/snapshot-contract.ts";

/** Longer than any of them takes, also where KVM is emulated. */
const PROMISE_MS = 300_000;
const never = new AbortController().signal;
const quietly = (): void => {};

const PROMISES: Readonly<Record<string, Check>> = {
  "a VM runs until it is stopped, and stopping it twice is fine": stopsTwice,
  "killing a VM ends it too": killEnds,
  "a guest that powers itself off is reported as such, once": reportsPowerOff,
  "a VMM that is killed is reported as died": reportsDeath,
  "the next hearthd finds the VM, follows it and stops it": isRecovered,
  "a pid that belongs to another process now counts as gone": noticesReusedPid,
  "a VMM that ended before it was watched is reported all the same": reportsEarlierEnd,
  "a paused VM is still there, and resumes": pausesAndResumes,
  "a VMM tells whether the vCPUs of its VM run, also a hearthd that takes over": tellsStatus,
  "a boot that is cancelled leaves nothing": cancelsBoot,
  "a watch that was ended hears nothing more": watchEnds,
  "a VM that the driver cannot run is refused in words, and all others are not": saysWhatItLacks,
  "limits change and go while a VM runs, where the features say so": changesLimits,
  "a guest has the memory that it was started with, until it is asked for some": readsMemory,
  "what a VMM counts can be read while it runs, and never goes down": readsMetrics,
  ...SNAPSHOT_PROMISES,
  ...SHARED_MEMORY_PROMISES,
};

/** The sentences of the suite, in its order. */
export const DRIVER_PROMISES: readonly string[] = Object.keys(PROMISES);

/**
 * Declares the tests. `open` makes the host of one test, which is closed after it. If `HEARTH_CONTRACT_OUT` names a
 * directory, the result of each promise is written there for docs/drivers.md.
 */
export function driverContract(name: string, open: () => Promise<ContractHost & AsyncDisposable>): void {
  describe(`the driver contract holds for ${name}`, { concurrency: false }, () => {
    const record = new ContractRecord(name);
    after(() => record.write());
    for (const [title, check] of Object.entries(PROMISES)) {
      test(title, async () => {
        await using host = await open();
        record.began(title, host.makeDriver());
        await assertFeatures(host.makeDriver());
        const offered = await inTime(check(host), PROMISE_MS, () => new Error(lateText(host)));
        assert.deepEqual(host.leftovers(), [], "nothing is left over");
        record.held(title, offered !== NOT_OFFERED);
      });
    }
  });
}

function lateText(host: ContractHost): string {
  return `The promise was neither kept nor broken within ${PROMISE_MS / 1000} s.\n${host.describe?.() ?? ""}`;
}

/** Callers check only the features: the parts that these deny are missing, or say why they must not be used. */
async function assertFeatures(driver: VmDriver): Promise<void> {
  const { balloon, limits, nested, networks, ...features } = await driver.features(never);
  const { layeredDisks, snapshots, snapshotsRefused } = features;
  assert.equal(driver.ballooner !== undefined, balloon, "a part that moves memory");
  assert.equal(driver.rateLimiter !== undefined, limits.disk || limits.net, "a part that sets limits");
  const isDenied = driver.snapshotter === undefined || snapshotsRefused !== undefined;
  assert.ok(snapshots === undefined ? isDenied : driver.snapshotter, "a part that saves");
  assert.ok(networks.includes("none"), "a VM needs no network");
  assert.ok(nested === undefined || nested.cpusMax >= 1, "a guest that runs VMs has a CPU");
  assert.ok(
    layeredDisks || snapshots?.diskFormat !== "qcow2",
    "what is restored has a disk that can be used",
  );
}

async function boot(driver: VmDriver, host: ContractHost, act: GuestAct): Promise<VmHandle> {
  const handle = await driver.boot(await host.makePlan(act), quietly, never);
  host.act?.(handle, act);
  return handle;
}

function watch(driver: VmDriver, handle: VmHandle, signal: AbortSignal) {
  const { promise: exit, resolve } = Promise.withResolvers<VmExit>();
  const exits: VmExit[] = [];
  const exited = (how: VmExit): void => {
    exits.push(how);
    resolve(how);
  };
  driver.watch(handle, { exited, silent: quietly }, signal);
  return { exit, exits };
}

async function stopsTwice(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const handle = await boot(driver, host, "wait");
  const { exit } = watch(driver, handle, never);
  assert.equal(await driver.recover(handle), true);
  assert.equal((await driver.stop(handle, "terminate", never)).reason, "asked");
  assert.equal((await exit).reason, "asked");
  assert.equal(await driver.recover(handle), false);
  await driver.stop(handle, "terminate", never);
  await driver.stop(handle, "kill", never);
}

async function killEnds(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const handle = await boot(driver, host, "wait");
  assert.equal((await driver.stop(handle, "kill", never)).reason, "asked");
  assert.equal(await driver.recover(handle), false);
}

async function reportsPowerOff(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const plan = await host.makePlan("power-off");
  const handle = await driver.boot(plan, quietly, never);
  const { exit, exits } = watch(driver, handle, never);
  host.act?.(handle, "power-off");
  assert.equal((await exit).reason, "guest");
  await driver.stop(handle, "terminate", never);
  assert.equal(exits.length, 1);
}

async function reportsDeath(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const handle = await boot(driver, host, "wait");
  const { exit } = watch(driver, handle, never);
  host.crash(handle);
  const { reason, signal } = await exit;
  assert.deepEqual({ reason, signal }, { reason: "died", signal: "SIGKILL" });
}

async function isRecovered(host: ContractHost): Promise<void> {
  const first = host.makeDriver();
  const stored = JSON.stringify(await boot(first, host, "wait"));
  const leaving = new AbortController();
  const before = watch(first, JSON.parse(stored), leaving.signal);
  leaving.abort();
  const second = host.makeDriver();
  const handle: VmHandle = JSON.parse(stored);
  assert.equal(await second.recover(handle), true);
  const { exit } = watch(second, handle, never);
  if ((await second.features(never)).pause) await second.pause(handle, never);
  await second.resume(handle, never);
  await second.stop(handle, "terminate", never);
  assert.equal((await exit).reason, "asked");
  assert.equal(before.exits.length, 0);
}

async function noticesReusedPid(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const handle = await boot(driver, host, "wait");
  const other = otherVmm(handle, { startTicks: handle.processes[0].startTicks - 1 });
  const earlier = otherVmm(handle, { hostBootId: "another boot" });
  for (const gone of [other, earlier]) {
    assert.equal(await driver.recover(gone), false);
    await driver.stop(gone, "kill", never);
  }
  assert.equal(await driver.recover(handle), true, "the process that has the pid now lives on");
  await driver.resume(handle, never);
  await driver.stop(handle, "kill", never);
}

function otherVmm(handle: VmHandle, other: Partial<ProcessId>): VmHandle {
  const [vmm, ...helpers] = handle.processes;
  return { ...handle, processes: [{ ...vmm, ...other }, ...helpers] };
}

async function reportsEarlierEnd(host: ContractHost): Promise<void> {
  const handle = await boot(host.makeDriver(), host, "wait");
  host.crash(handle);
  const { exit } = watch(host.makeDriver(), handle, never);
  assert.equal((await exit).reason, "died");
}

async function pausesAndResumes(host: ContractHost): Promise<void | typeof NOT_OFFERED> {
  const driver = host.makeDriver();
  if (!(await driver.features(never)).pause) return NOT_OFFERED;
  const handle = await boot(driver, host, "wait");
  await driver.pause(handle, never);
  await driver.pause(handle, never);
  assert.equal(await driver.recover(handle), true);
  for (let time = 0; time < 2; time += 1) await driver.resume(handle, never);
  await driver.stop(handle, "terminate", never);
  await assert.rejects(driver.pause(handle, never), isCode("vm.gone"));
}

async function tellsStatus(host: ContractHost): Promise<void | typeof NOT_OFFERED> {
  const driver = host.makeDriver();
  if (!(await driver.features(never)).pause) return NOT_OFFERED;
  const handle = await boot(driver, host, "wait");
  using _alive = blockEventLoop(); // Neither a heartbeat nor the connections of a session keep the process alive.
  const first = new StatusWatch(driver, handle);
  await first.heard("running");
  await driver.pause(handle, never);
  await first.heard("paused");
  first.end();
  const next = host.makeDriver();
  const second = new StatusWatch(next, handle);
  await second.heard("paused");
  await next.resume(handle, never);
  await second.heard("running");
  second.end();
  await next.stop(handle, "kill", never);
}

/** Records the states that a VMM reports while it is watched. */
class StatusWatch {
  readonly #end = new AbortController();
  readonly #told = new EventTarget();
  #last: string | undefined;

  constructor(driver: VmDriver, handle: VmHandle) {
    const status = (said: string): void => {
      this.#last = said;
      this.#told.dispatchEvent(new Event(said));
    };
    driver.watch(handle, { exited: quietly, silent: quietly, status }, this.#end.signal);
  }

  async heard(status: string): Promise<void> {
    if (this.#last !== status) await once(this.#told, status);
  }

  end(): void {
    this.#end.abort();
  }
}

async function cancelsBoot(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const cancel = new AbortController();
  const booting = driver.boot(
    await host.makePlan("wait"),
    () => cancel.abort(new Error("not wanted")),
    cancel.signal,
  );
  await assert.rejects(booting, /not wanted/);
  await assert.rejects(
    driver.boot(await host.makePlan("wait"), quietly, AbortSignal.abort(new Error("too late"))),
  );
}

async function watchEnds(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const handle = await boot(driver, host, "wait");
  const leaving = new AbortController();
  const { exits } = watch(driver, handle, leaving.signal);
  leaving.abort();
  await driver.stop(handle, "kill", never);
  assert.deepEqual(exits, []);
}

/** Checks one spec for each feature that may be denied, and one that needs none. */
async function saysWhatItLacks(host: ContractHost): Promise<void> {
  const driver = host.makeDriver();
  const { limits, nested, networks } = await driver.features(never);
  const plain: RunSpec = { cpus: 1, network: "none", nested: false };
  const cases: readonly (readonly [spec: Partial<RunSpec>, can: boolean])[] = [
    [{}, true],
    ...NETWORKS.map((network) => [{ network }, networks.includes(network)] as const),
    [{ diskLimit: { opsPerS: 1 } }, limits.disk],
    [{ netLimit: { opsPerS: 1 } }, limits.net],
    [{ nested: true }, nested !== undefined],
    [{ nested: true, cpus: (nested?.cpusMax ?? 0) + 1 }, false],
  ];
  for (const [more, can] of cases) {
    const lacking = await driver.canRun({ ...plain, ...more }, never);
    assert.equal(lacking === undefined, can, JSON.stringify(more));
    if (lacking === undefined) continue;
    assert.equal(lacking.code, "feature.missing");
    assert.match(lacking.message, /^\S.*\.$/, "a sentence");
    assert.notEqual(lacking.hint, "", "it says what to do");
  }
}

async function changesLimits(host: ContractHost): Promise<void | typeof NOT_OFFERED> {
  const driver = host.makeDriver();
  const { limits } = await driver.features(never);
  const { rateLimiter } = driver;
  assert.equal(
    rateLimiter !== undefined,
    limits.disk || limits.net,
    "the features name the part, or its absence",
  );
  if (rateLimiter === undefined) return NOT_OFFERED;
  const plan = await host.makePlan("wait");
  const dir = mkdtempSync(join(tmpdir(), "contract-disks-"));
  await using _removed = { [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) };
  const disk = (id: string): DiskPlan => {
    const path = join(dir, `${id}.raw`);
    writeFileSync(path, Buffer.alloc(MIB));
    return { id, path, format: "raw", readOnly: true };
  };
  const limit = { bandwidthBytesPerS: 2 ** 20, bandwidthBurstBytes: 2 ** 21, opsPerS: 100, opsBurst: 200 };
  const disks = [{ ...disk("a"), ...(limits.disk && { limit }) }, disk("b")];
  const handle = await driver.boot({ ...plan, disks: [...plan.disks, ...disks] }, quietly, never);
  host.act?.(handle, "wait");
  if (limits.disk) {
    await rateLimiter.setLimits(handle, { disks: { a: undefined, b: limit, other: limit } }, never);
    await rateLimiter.setLimits(handle, { disks: { b: undefined } }, never);
  }
  if (limits.net) await rateLimiter.setLimits(handle, { nics: { other: limit } }, never);
  await rateLimiter.setLimits(handle, {}, never);
  await driver.stop(handle, "kill", never);
  await assert.rejects(rateLimiter.setLimits(handle, {}, never), isCode("vm.gone"));
}

async function readsMemory(host: ContractHost): Promise<void | typeof NOT_OFFERED> {
  const driver = host.makeDriver();
  const { balloon } = await driver.features(never);
  const { ballooner } = driver;
  assert.equal(ballooner !== undefined, balloon, "the feature names the part, or its absence");
  if (ballooner === undefined) return NOT_OFFERED;
  const plan = await host.makePlan("wait");
  const handle = await driver.boot(plan, quietly, never);
  host.act?.(handle, "wait");
  const all = { bytes: plan.memoryBytes, maxBytes: plan.memoryBytes };
  assert.deepEqual(await ballooner.readMemory(handle, never), all);
  assert.deepEqual(await ballooner.setMemory(handle, plan.memoryBytes, never), all);
  await driver.stop(handle, "kill", never);
  await assert.rejects(ballooner.readMemory(handle, never), isCode("vm.gone"));
}

async function readsMetrics(host: ContractHost): Promise<void | typeof NOT_OFFERED> {
  const driver = host.makeDriver();
  const { meter } = driver;
  if (meter === undefined) return NOT_OFFERED;
  const handle = await boot(driver, host, "wait");
  const before = await meter.readMetrics(handle, never);
  const later = await meter.readMetrics(handle, never);
  for (const [name, count] of Object.entries(before)) {
    assert.ok(Number.isInteger(count) && count >= 0, `${name} is a count`);
    assert.ok(later[name as keyof typeof after] >= count, `${name} goes up`);
  }
  await driver.stop(handle, "kill", never);
  await assert.rejects(meter.readMetrics(handle, never), isCode("vm.gone"));
}

function isCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof HearthError && error.code === code;
}
