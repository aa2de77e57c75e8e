import assert from "node:assert/strict";
import { test } from "node:test";
import { UNCONFINED } from "#drivers/boot-isolation.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { driverContract } from "#testing/driver-contract.ts";
import type { ContractHost } from "#testing/driver-contract.ts";
import { FakeDriver, FakeVmms } from "#testing/fake-driver.ts";

function fakePlan(): BootPlan {
  return {
    id: vmIdFrom(new Uint8Array(12)),
    name: parseVmName("web"),
    stateDir: "/fake/state",
    runDir: "/fake/run",
    kernel: "/fake/vmlinuz",
    initramfs: "/fake/initramfs",
    kernelArgs: [],
    disks: [],
    cpus: 1,
    memoryBytes: 2 ** 29,
    network: "none",
    init: "agent",
    nested: false,
    isolation: UNCONFINED,
  };
}

driverContract("the fake driver", async (): Promise<ContractHost & AsyncDisposable> => {
  const vmms = new FakeVmms();
  const outside = new FakeDriver({ vmms });
  return {
    makeDriver: () => new FakeDriver({ vmms }),
    makePlan: async () => fakePlan(),
    act: (handle, act) => void (act === "power-off" && outside.powerOff(handle)),
    crash: (handle) => outside.crash(handle),
    leftovers: () => outside.leftovers(),
    [Symbol.asyncDispose]: async () => {},
  };
});

const never = new AbortController().signal;

test("a fault spoils one boot and no more", async () => {
  const driver = new FakeDriver();
  driver.faults.bootError = new Error("no such luck");
  await assert.rejects(
    driver.boot(fakePlan(), () => {}, never),
    /no such luck/,
  );
  assert.deepEqual(driver.leftovers(), []);
  await driver.boot(fakePlan(), () => {}, never);
  assert.equal(driver.leftovers().length, 1);
});
