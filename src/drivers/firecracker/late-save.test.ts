import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import type { FirecrackerTiming } from "#drivers/firecracker/firecracker-session.ts";
import type { SaveHooks, Snapshotter } from "#drivers/vm-driver.ts";
import { FakeFirecrackerVm } from "#testing/fake-firecracker-vm.ts";

const signal = AbortSignal.timeout(60_000);
const NO_HOOKS: SaveHooks = { quiesce: async () => {}, onPaused: async () => {} };

function newSnapshotter(timing: Partial<FirecrackerTiming> = {}): Snapshotter {
  return new FirecrackerDriver({
    timing,
    find: () => Promise.reject(new Error("There is no boot in this test.")),
    kvm: () => Promise.resolve("works"),
  }).snapshotter;
}

function filesOf(vm: FakeFirecrackerVm): string[] {
  return ["save", "saved"].flatMap((name) => readdirSync(join(vm.handle.stateDir, name)));
}

/** Waits until Firecracker was asked this often, whether it has answered or not. */
async function untilAsked(vm: FakeFirecrackerVm, what: string, times: number): Promise<void> {
  const asked = (): number => vm.api.asked.filter(({ method, path }) => `${method} ${path}` === what).length;
  while (asked() < times) await new Promise((resolve) => setImmediate(resolve));
}

describe("a save that takes longer than it may", () => {
  async function lateSave(vm: FakeFirecrackerVm) {
    const written = Promise.withResolvers<void>();
    vm.writing = written.promise;
    const dir = join(vm.handle.stateDir, "saved");
    mkdirSync(dir);
    const saved = { memory: join(dir, "memory"), state: join(dir, "state") };
    const snapshotter = newSnapshotter({ saveDeadlineMs: 50 });
    return {
      written,
      saved,
      snapshotter,
      save: () => snapshotter.save(vm.handle, saved, NO_HOOKS, signal),
    };
  }

  test("fails, and the VM is resumed and its files removed as soon as Firecracker is done", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const { written, save } = await lateSave(vm);
    const failing = assert.rejects(save(), { code: "snapshot.failed" });
    await untilAsked(vm, "GET /", 2);
    assert.equal(vm.phase, "Paused");
    written.resolve();
    await failing;
    assert.equal(vm.phase, "Running");
    assert.deepEqual(filesOf(vm), []);
  });

  test("and is cancelled resumes the VM as well", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const { written, saved } = await lateSave(vm);
    const cancel = new AbortController();
    const reason = new Error("not wanted");
    const saving = newSnapshotter().save(vm.handle, saved, NO_HOOKS, cancel.signal);
    const failing = assert.rejects(saving, reason);
    await untilAsked(vm, "PUT /snapshot/create", 1);
    cancel.abort(reason);
    await untilAsked(vm, "GET /", 2);
    written.resolve();
    await failing;
    assert.equal(vm.phase, "Running");
    assert.deepEqual(filesOf(vm), []);
  });

  test("leaves a VM paused that was paused before", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.phase = "Paused";
    const { written, save } = await lateSave(vm);
    const failing = assert.rejects(save(), { code: "snapshot.failed" });
    await untilAsked(vm, "GET /", 2);
    written.resolve();
    await failing;
    assert.equal(vm.phase, "Paused");
    assert.deepEqual(filesOf(vm), []);
  });
});
