/** Tests the promises of every driver that can save VMs with their memory. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, statSync, truncateSync } from "node:fs";
import { dirname } from "node:path";
import type { VmHandle } from "#model/vm-handle.ts";
import type { Check, ContractHost } from "#testing/contract-host.ts";
import {
  bootCounting,
  COUNTED,
  counts,
  lastOf,
  hooksOf,
  NO_HOOKS,
  offered,
  restore,
  saveOne,
} from "#testing/saved-in-contract.ts";
import type { Saving } from "#testing/saved-in-contract.ts";

const never = new AbortController().signal;
const quietly = (): void => {};
/** Two seconds at least, on a host that is not busy. */
const MEANWHILE = 40;

/** By their sentences; a driver without such a part, that says so, keeps them all. */
export const SNAPSHOT_PROMISES: Readonly<Record<string, Check>> = {
  "a VM that is saved keeps running, and what was saved runs again in another VM": offered(savesAndRestores),
  "a save that fails leaves the VM running and no file": offered(failsCleanly),
  "what was saved and is damaged is refused, before a guest runs": offered(refusesDamage),
  "one saved state serves several VMs at once, and a VM that was restored is saved again":
    offered(servesSeveral),
};

async function savesAndRestores({ driver, snapshotter, host }: Saving): Promise<void> {
  const source = await bootCounting(driver, host);
  const saved = host.snapshotFiles("one");
  const before = lastOf(host.counted(source));
  const order: string[] = [];
  const hooks = {
    quiesce: async () => void order.push("quiesce"),
    onPaused: async () => void order.push("onPaused"),
  };
  await snapshotter.save(source, saved, hooks, never);
  assert.deepEqual(order, ["quiesce", "onPaused"]);
  await counts(host, source, lastOf(host.counted(source)));
  await snapshotter.finalize(await host.makePlan("count"), saved, never);
  const restored = await restore(snapshotter, host, saved);
  await assertClockGoesOn(host, source, restored);
  const [first = 0] = await counts(host, restored, before);
  assert.ok(first > before, `it continues from ${before}, and does not begin at 1`);
  assert.equal(await driver.recover(restored), true);
  await driver.pause(restored, never);
  // A VM that runs already is not disturbed by another one.
  for (let time = 0; time < 2; time += 1) await driver.resume(restored, never);
  await counts(host, restored, lastOf(host.counted(restored)));
  for (const vm of [source, restored]) await driver.stop(vm, "kill", never);
  await assert.rejects(snapshotter.save(source, host.snapshotFiles("gone"), NO_HOOKS, never), {
    code: "vm.gone",
  });
}

async function failsCleanly({ driver, snapshotter, host }: Saving): Promise<void> {
  const vm = await bootCounting(driver, host);
  const saved = host.snapshotFiles("failing");
  const fails = async (): Promise<void> => {
    throw new Error("not now");
  };
  for (const name of ["quiesce", "onPaused"] as const) {
    await assert.rejects(snapshotter.save(vm, saved, { ...NO_HOOKS, [name]: fails }, never), /not now/);
    assert.deepEqual(readdirSync(dirname(saved.state)), [], `nothing is left when ${name} fails`);
    await counts(host, vm, lastOf(host.counted(vm)));
  }
  const cancel = new AbortController();
  const cancels = async (): Promise<void> => cancel.abort(new Error("not wanted"));
  const saving = snapshotter.save(vm, saved, { ...NO_HOOKS, quiesce: cancels }, cancel.signal);
  await assert.rejects(saving, /not wanted/);
  assert.deepEqual(readdirSync(dirname(saved.state)), [], "nothing is left when nobody wants it any more");
  await counts(host, vm, lastOf(host.counted(vm)));
  await snapshotter.save(vm, saved, NO_HOOKS, never);
  await driver.stop(vm, "kill", never);
}

async function refusesDamage({ driver, snapshotter, host }: Saving): Promise<void> {
  const saved = await saveOne({ driver, snapshotter, host });
  truncateSync(saved.state, Math.floor(statSync(saved.state).size / 2));
  const plan = await host.makePlan("count");
  await assert.rejects(snapshotter.restore(plan, saved, quietly, never), { code: "snapshot.failed" });
  assert.deepEqual(host.counted(plan), [], "its guest did not run");
  assert.ok(existsSync(saved.memory), "it is for others to remove");
}

async function servesSeveral({ driver, snapshotter, host }: Saving): Promise<void> {
  const saved = await saveOne({ driver, snapshotter, host });
  const first = await restore(snapshotter, host, saved);
  const second = await restore(snapshotter, host, saved);
  const said = await Promise.all([first, second].map((vm) => counts(host, vm, COUNTED)));
  const again = host.snapshotFiles("again");
  await snapshotter.save(second, again, hooksOf(second), never);
  await snapshotter.finalize(await host.makePlan("count"), again, never);
  const third = await restore(snapshotter, host, again);
  await counts(host, third, lastOf(said[1] ?? []));
  await counts(host, first, lastOf(host.counted(first)));
  for (const vm of [first, second, third]) await driver.stop(vm, "kill", never);
}

/** Between two numbers it sleeps: a guest whose clock is stopped says one at most, however long it is waited for. */
async function assertClockGoesOn(host: ContractHost, source: VmHandle, restored: VmHandle): Promise<void> {
  const said = lastOf(host.counted(restored));
  await counts(host, source, lastOf(host.counted(source)) + MEANWHILE);
  const more = lastOf(host.counted(restored)) - said;
  assert.ok(more > 1, `its clock runs: it counts ${more} while its source counts ${MEANWHILE}`);
}
