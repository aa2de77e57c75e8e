/** A guest that changes its memory as fast as it can is saved all the same, and within bounds. */
import assert from "node:assert/strict";
import { rmSync, statSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import { DIRTIED_BYTES } from "./tiny-initramfs.ts";
import { TinyVms } from "./tiny-vms.ts";

const MIB = 1024 ** 2;
/** A stream in which nothing arrives for so long is held back. */
const STILL_MS = 1_500;
const TRIES = 5;
/** The console tells no one when a guest writes to it, so it is looked at. */
const LOOK_EVERY_MS = 50;

test("a guest that changes its memory as fast as it can, and freezes late, is saved within 1.6 times its memory", async (t) => {
  await using vms = new TinyVms();
  const driver = new QemuDriver();
  const signal = AbortSignal.timeout(120_000);
  const plan = await vms.plan("dirty");
  const vm = await driver.boot(plan, () => {}, signal);
  const countsBeyond = async (number: number): Promise<void> => {
    while ((vms.counted(vm).at(-1) ?? 0) <= number) await sleep(LOOK_EVERY_MS, undefined, { signal });
  };
  await countsBeyond(5);

  const saved = vms.snapshotFiles("dirty");
  let pausedAtBytes = 0;
  const size = (): number => statSync(`${saved.memory}.stream`).size;
  /**
   * A guest that takes its time to freeze its processes: until nothing more is read of its memory, or far too much.
   */
  const quiesce = async (): Promise<void> => {
    do {
      pausedAtBytes = size();
      await sleep(STILL_MS, undefined, { signal });
    } while (size() > pausedAtBytes && pausedAtBytes < 3 * plan.memoryBytes);
  };
  const hooks = { quiesce, onPaused: async () => {} };
  let bytes = 0;
  // A guest that gets too little of a CPU is slower than the save, which shows nothing.
  for (let time = 0; pausedAtBytes <= DIRTIED_BYTES; time++) {
    assert.ok(time < TRIES, "it changes its memory faster than it is sent: more than once round");
    rmSync(`${saved.memory}.stream`, { force: true });
    await driver.snapshotter.save(vm, saved, hooks, signal);
    bytes = size();
    t.diagnostic(
      `${pausedAtBytes / MIB} MiB while it ran, ${bytes / MIB} MiB in all, of ${plan.memoryBytes / MIB}`,
    );
  }
  assert.ok(bytes <= 1.6 * plan.memoryBytes + 32 * MIB, `${bytes / MIB} MiB were written`);
  await countsBeyond(vms.counted(vm).at(-1) ?? 0);

  await driver.snapshotter.finalize(await vms.plan("dirty"), saved, signal);
  const restored = await driver.snapshotter.restore(await vms.plan("dirty"), saved, () => {}, signal);
  while (vms.counted(restored).length === 0) await sleep(LOOK_EVERY_MS, undefined, { signal });
  assert.ok((vms.counted(restored)[0] ?? 0) > 5, "it continues where it was saved");
  for (const one of [vm, restored]) await driver.stop(one, "kill", signal);
});
