import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { MIB } from "#base/sizes.ts";
import { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import { findProcess, signalProcess } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { answerJson } from "#testing/fake-firecracker.ts";
import { FakeFirecrackerVm } from "#testing/fake-firecracker-vm.ts";

const signal = AbortSignal.timeout(60_000);

/** The driver of a hearthd that has just started: it knows nothing of running VMs. */
function newDriver(timing: { heartbeatMs?: number } = {}): FirecrackerDriver {
  return new FirecrackerDriver({
    timing,
    find: () => Promise.reject(new Error("There is no boot in this test.")),
    kvm: () => Promise.resolve("works"),
  });
}

type Part = (driver: FirecrackerDriver, handle: VmHandle) => Promise<unknown>;
const PARTS: Readonly<Record<string, Part>> = {
  "setting limits": (driver, handle) => driver.rateLimiter.setLimits(handle, {}, signal),
  "reading memory": (driver, handle) => driver.ballooner.readMemory(handle, signal),
  "setting memory": (driver, handle) => driver.ballooner.setMemory(handle, 256 * MIB, signal),
  "reading metrics": (driver, handle) => driver.meter.readMetrics(handle, signal),
  pausing: (driver, handle) => driver.pause(handle, signal),
  resuming: (driver, handle) => driver.resume(handle, signal),
};

describe("a hearthd that has adopted a Firecracker", () => {
  test("limits its disks, changes its memory and reads its metrics", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.stepMib = 1_024;
    const driver = newDriver();
    const leaving = new AbortController();
    driver.watch(vm.handle, { exited: () => {}, silent: () => {} }, leaving.signal);
    await driver.rateLimiter.setLimits(
      vm.handle,
      { disks: { own: { opsPerS: 100 }, "vol-a": undefined, gone: { opsPerS: 1 } } },
      signal,
    );
    const memory = await driver.ballooner.setMemory(vm.handle, 256 * MIB, signal);
    assert.deepEqual(memory, { bytes: 256 * MIB, maxBytes: 512 * MIB });
    assert.deepEqual(await driver.ballooner.readMemory(vm.handle, signal), memory);
    assert.equal((await driver.meter.readMetrics(vm.handle, signal)).vcpuExits, 1);
    leaving.abort();
    assert.deepEqual(
      vm.changes.map(({ request }) => request),
      ["PATCH /drives/disk1", "PATCH /drives/disk2", "PATCH /balloon", "PUT /actions"],
    );
  });
});

describe("resuming", () => {
  const requests = (vm: FakeFirecrackerVm): string[] => vm.changes.map(({ request }) => request);

  test("sends one request to a paused VM, and none to a running one", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const driver = newDriver();
    await driver.pause(vm.handle, signal);
    assert.equal(vm.phase, "Paused");
    for (let time = 0; time < 3; time += 1) await driver.resume(vm.handle, signal);
    assert.equal(vm.phase, "Running");
    assert.deepEqual(requests(vm), ["PATCH /vm", "PATCH /vm"]);
  });

  for (const version of ["1.16.0", "1.16.1"]) {
    test(`does no harm to a VM of ${version} that an older Hearth has started: it is never paused`, async () => {
      await using vm = await FakeFirecrackerVm.start();
      vm.version = version;
      const driver = newDriver();
      await assert.rejects(driver.pause(vm.handle, signal), {
        code: "feature.missing",
        hint: "Use Firecracker 1.16.2 or newer, or 1.15.1.",
      });
      await driver.resume(vm.handle, signal);
      assert.deepEqual(requests(vm), []);
    });
  }
});

test("a heartbeat reports whether Firecracker runs the vCPUs", async () => {
  await using vm = await FakeFirecrackerVm.start();
  const driver = newDriver({ heartbeatMs: 20 });
  const leaving = new AbortController();
  const told = { Running: Promise.withResolvers<void>(), Paused: Promise.withResolvers<void>() };
  const status = (said: VmmStatus): void => told[said === "running" ? "Running" : "Paused"].resolve();
  driver.watch(vm.handle, { exited: () => {}, silent: () => {}, status }, leaving.signal);
  await told.Running.promise;
  vm.phase = "Paused";
  await told.Paused.promise;
  leaving.abort();
});

test("a caller that is cancelled while Firecracker does not answer returns at once, and does not end the wait of others", async () => {
  await using vm = await FakeFirecrackerVm.start();
  const { answer } = vm.api;
  const asked = Promise.withResolvers<() => void>();
  vm.api.answer = (request, response) => asked.resolve(() => answer(request, response));
  const driver = newDriver();
  const leaves = new AbortController();
  const first = driver.resume(vm.handle, leaves.signal);
  const second = driver.resume(vm.handle, signal);
  const respond = await asked.promise;
  leaves.abort(new Error("Ctrl-C"));
  await assert.rejects(first, /Ctrl-C/);
  vm.api.answer = answer;
  respond();
  await second;
});

for (const [what, part] of Object.entries(PARTS)) {
  describe(what, () => {
    test("of a VM whose process has ended is vm.gone, without a request", async () => {
      await using vm = await FakeFirecrackerVm.start();
      const [vmm] = vm.handle.processes;
      const gone = { ...vm.handle, processes: [{ ...vmm, startTicks: vmm.startTicks - 1 }] } as const;
      await assert.rejects(part(newDriver(), gone), { code: "vm.gone" });
      assert.deepEqual(vm.api.asked, []);
    });

    test("of a VM that ends meanwhile is vm.gone", async (t) => {
      await using vm = await FakeFirecrackerVm.start();
      const logFile = join(vm.handle.stateDir, "sleep.log");
      const pid = await startDetached("sleep", ["600"], { cwd: "/", logFile, onExit: () => {} });
      const process = findProcess(pid);
      assert.ok(process !== undefined, "it runs");
      t.after(() => signalProcess(process, "SIGKILL"));
      const { answer } = vm.api;
      vm.api.answer = (request, response) => {
        if (request.path === "/version") return answer(request, response);
        signalProcess(process, "SIGKILL");
        void vm.api.stopListening();
        response.destroy();
      };
      await assert.rejects(part(newDriver(), { ...vm.handle, processes: [process] }), { code: "vm.gone" });
    });

    test("of a running VM fails with Firecracker's reason when it refuses", async () => {
      await using vm = await FakeFirecrackerVm.start();
      const { answer } = vm.api;
      vm.api.answer = (request, response) =>
        request.path === "/version"
          ? answer(request, response)
          : answerJson(response, 400, { fault_message: "not now" });
      await assert.rejects(part(newDriver(), vm.handle), { code: "vmm.failed", message: /not now/ });
    });
  });
}
