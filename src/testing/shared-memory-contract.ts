/** Tests the promises of every driver about a guest memory file that several VMs are restored from. */
import assert from "node:assert/strict";
import { chmodSync, chownSync, statSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import type { Ballooner, SnapshotFiles } from "#drivers/vm-driver.ts";
import { hashFile } from "#host/hash-file.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { Check, ContractHost } from "#testing/contract-host.ts";
import {
  bootCounting,
  COUNTED,
  counts,
  lastOf,
  NO_HOOKS,
  offered,
  restore,
} from "#testing/saved-in-contract.ts";
import type { Saving } from "#testing/saved-in-contract.ts";

const never = new AbortController().signal;
/** Asked of a guest: 16,384 pages, and a moment of an emulated CPU. */
const GIVEN_BYTES = 64 * MIB;
/** The most that a VMM may log. A line for each page would be more than a megabyte. */
const LOG_MAX_BYTES = 64 * 1024;

export const SHARED_MEMORY_PROMISES: Readonly<Record<string, Check>> = {
  "a restored VM that gives memory back changes no byte that another VM reads, and its VMM can write none":
    offered(changesNothing),
};

async function changesNothing(saving: Saving): Promise<void> {
  const { driver, snapshotter, host } = saving;
  const saved = await saveSealed(saving);
  const { sha256 } = await hashFile(saved.memory, never);
  const first = await restore(snapshotter, host, saved);
  const second = await restore(snapshotter, host, saved);
  for (const vm of [first, second]) await counts(host, vm, COUNTED);
  assertCannotWrite(host, first, saved.memory);
  if (driver.ballooner !== undefined) await givesOrRefuses(driver.ballooner, first);
  assert.equal((await hashFile(saved.memory, never)).sha256, sha256, "the file is as it was");
  const log = statSync(join(first.stateDir, "vmm.log"), { throwIfNoEntry: false });
  assert.ok((log?.size ?? 0) < LOG_MAX_BYTES, `the VMM's log has ${log?.size} bytes`);
  const third = await restore(snapshotter, host, saved);
  for (const vm of [first, second, third]) await counts(host, vm, lastOf(host.counted(vm)));
  for (const vm of [first, second, third]) await driver.stop(vm, "kill", never);
}

/** A driver that cannot free such memory says so, and asks nothing of the guest. */
async function givesOrRefuses(ballooner: Ballooner, vm: VmHandle): Promise<void> {
  const before = await ballooner.readMemory(vm, never);
  try {
    const { bytes } = await ballooner.setMemory(vm, before.bytes - GIVEN_BYTES, never);
    assert.ok(bytes < before.bytes, "the guest gives");
  } catch (error) {
    if (!(error instanceof HearthError)) throw error;
    assert.equal(error.code, "feature.missing");
    assert.notEqual(error.hint, undefined);
    assert.deepEqual(await ballooner.readMemory(vm, never), before, "the guest keeps what it has");
    assert.deepEqual(
      await ballooner.setMemory(vm, before.bytes, never),
      before,
      "as much as it has is no change",
    );
  }
}

/** By what it has open, and by what its jail shows it. */
function assertCannotWrite(host: ContractHost, vm: VmHandle, path: string): void {
  const files = host.openFiles?.(vm);
  if (files === undefined) return;
  assert.deepEqual(files.writersOf(path), []);
  if (vm.isolation?.jail === true) assert.deepEqual(files.writablePlaces(path), []);
}

/**
 * Saves a VM and ends it. The file belongs to this process and nobody may write to it, as hearthd has it. The guest has
 * given memory and got it back before: those that are restored can give some, too.
 */
async function saveSealed({ driver, snapshotter, host }: Saving): Promise<SnapshotFiles> {
  const source = await bootCounting(driver, host, "give");
  if (driver.ballooner !== undefined) {
    const { bytes } = await driver.ballooner.readMemory(source, never);
    const less = await driver.ballooner.setMemory(source, bytes - GIVEN_BYTES, never);
    assert.ok(less.bytes < bytes, "a guest that was booted gives memory when it is asked");
    assert.equal((await driver.ballooner.setMemory(source, bytes, never)).bytes, bytes);
  }
  const saved = host.snapshotFiles("shared");
  await snapshotter.save(source, saved, NO_HOOKS, never);
  await driver.stop(source, "kill", never);
  await snapshotter.finalize(await host.makePlan("count"), saved, never);
  if (process.geteuid?.() === 0) chownSync(saved.memory, 0, 0);
  chmodSync(saved.memory, 0o444);
  return saved;
}
