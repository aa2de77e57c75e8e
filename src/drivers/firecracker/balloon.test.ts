import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MIB } from "#base/sizes.ts";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { inflateTo, readMemory } from "#drivers/firecracker/balloon.ts";
import { FakeFirecrackerVm } from "#testing/fake-firecracker-vm.ts";

const signal = AbortSignal.timeout(60_000);
/** The timing for guests that reach the target. */
const PATIENT = { askEveryMs: 1, stuckAfterMs: 60_000, totalMs: 60_000 };
/** The timing for guests that never do. */
const HASTY = { askEveryMs: 1, stuckAfterMs: 20, totalMs: 60_000 };
const NO_DRIVER_TEXTS = [
  "Device is inactive, check if balloon driver is enabled in guest kernel.",
  "Error updating the balloon device: Device not activated yet.",
];

function clientOf({ files }: FakeFirecrackerVm): FirecrackerClient {
  return new FirecrackerClient({ socketPath: files.api, version: parseFirecrackerVersion("1.12.1") });
}
const amounts = (vm: FakeFirecrackerVm) => vm.changes.map(({ body }) => body);

describe("a guest's memory", () => {
  test("is all that it was started with, until it is asked for some", async () => {
    await using vm = await FakeFirecrackerVm.start();
    assert.deepEqual(await readMemory(clientOf(vm), signal), { bytes: 512 * MIB, maxBytes: 512 * MIB });
  });

  test("goes down and up again, by targets in MiB", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const client = clientOf(vm);
    const maxBytes = 512 * MIB;
    assert.deepEqual(await inflateTo(client, 256 * MIB, signal, PATIENT), { bytes: 256 * MIB, maxBytes });
    assert.deepEqual(await readMemory(client, signal), { bytes: 256 * MIB, maxBytes });
    assert.deepEqual(await inflateTo(client, 512 * MIB, signal, PATIENT), { bytes: maxBytes, maxBytes });
    assert.deepEqual(vm.changes, [
      { request: "PATCH /balloon", body: { amount_mib: 256 } },
      { request: "PATCH /balloon", body: { amount_mib: 0 } },
    ]);
  });

  test("is rounded down to MiB, as at the start, and limited to what the guest was started with", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const client = clientOf(vm);
    assert.equal((await inflateTo(client, 256 * MIB + 1, signal, PATIENT)).bytes, 256 * MIB);
    assert.equal((await inflateTo(client, 513 * MIB, signal, PATIENT)).bytes, 512 * MIB);
    assert.deepEqual(amounts(vm), [{ amount_mib: 256 }, { amount_mib: 0 }]);
  });

  test("stays where the guest can spare no more, and the target stays set", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const client = clientOf(vm);
    vm.spareMib = 100;
    assert.equal((await inflateTo(client, 256 * MIB, signal, HASTY)).bytes, 412 * MIB);
    assert.deepEqual(amounts(vm), [{ amount_mib: 256 }]);
    vm.spareMib = 1_024;
    vm.stepMib = 1_024;
    assert.equal((await readMemory(client, signal)).bytes, 256 * MIB);
  });

  for (const text of NO_DRIVER_TEXTS) {
    test(`does not change in a guest without a driver: ${text}`, async () => {
      await using vm = await FakeFirecrackerVm.start();
      vm.hasBalloonDriver = false;
      vm.noDriverText = text;
      const all = { bytes: 512 * MIB, maxBytes: 512 * MIB };
      assert.deepEqual(await inflateTo(clientOf(vm), 256 * MIB, signal, HASTY), all);
      assert.ok(vm.changes.length > 1, "it was asked again");
      const asked = vm.changes.length;
      assert.deepEqual(await inflateTo(clientOf(vm), 512 * MIB, signal, PATIENT), all);
      assert.equal(vm.changes.length, asked + 1, "a target that is reached is not waited for");
    });
  }

  test("changes in a guest that loads its driver later", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.hasBalloonDriver = undefined;
    assert.equal((await inflateTo(clientOf(vm), 256 * MIB, signal, PATIENT)).bytes, 256 * MIB);
    assert.deepEqual(amounts(vm), [{ amount_mib: 256 }, { amount_mib: 256 }]);
  });

  test("is an error at once where Firecracker refuses for another reason", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.hasBalloonDriver = false;
    vm.noDriverText = "Amount of pages requested is too large.";
    await assert.rejects(inflateTo(clientOf(vm), 256 * MIB, signal, PATIENT), {
      code: "vmm.failed",
      message: /too large/,
    });
  });

  test("is no longer waited for when the caller cancels", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.spareMib = 0;
    const leaving = new AbortController();
    const waiting = inflateTo(clientOf(vm), 256 * MIB, leaving.signal, PATIENT);
    leaving.abort(new Error("not wanted"));
    await assert.rejects(waiting, /not wanted|aborted/);
  });
});
