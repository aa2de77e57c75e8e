import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { accept, answerJson, FakeFirecracker } from "#testing/fake-firecracker.ts";
import { type FirecrackerCall, make } from "#testing/firecracker-call.ts";
import { FIRECRACKER_1_12_CALLS, FIRECRACKER_CALLS } from "#testing/firecracker-calls.ts";

const signal = AbortSignal.timeout(60_000);

function clientOf({ socketPath }: FakeFirecracker, version = "1.17.0"): FirecrackerClient {
  return new FirecrackerClient({ socketPath, version: parseFirecrackerVersion(version) });
}

function golden(title: string, calls: readonly FirecrackerCall[], version: string): void {
  describe(title, () => {
    for (const [i, one] of calls.entries()) {
      test(`${one.request}, ${one.name} ${i}`, async () => {
        await using fake = await FakeFirecracker.start();
        await make(clientOf(fake, version), one);
        const [asked, ...more] = fake.asked;
        assert.equal(more.length, 0);
        assert.equal(`${asked?.method} ${asked?.path}`, one.request);
        const body = asked?.text === "" ? undefined : JSON.parse(asked?.text ?? "");
        assert.deepEqual(body, one.body);
      });
    }
  });
}

golden("the client's request", FIRECRACKER_CALLS, "1.17.0");
golden("the client's request to 1.12", FIRECRACKER_1_12_CALLS, "1.12.1");

describe("the client", () => {
  test("has no method without a test here", () => {
    const methods = Object.getOwnPropertyNames(FirecrackerClient.prototype);
    const looked = new Set<string>([
      "constructor",
      "configure",
      ...FIRECRACKER_CALLS.map(({ name }) => name),
    ]);
    assert.deepEqual(new Set(methods), looked);
  });

  test("sends no absent section, and configures in the order that is needed", async () => {
    await using fake = await FakeFirecracker.start();
    await clientOf(fake, "1.12.1").configure(
      {
        machineConfig: { vcpuCount: 1, memSizeMib: 128 },
        bootSource: { kernelImagePath: "/vmlinux" },
        drives: [{ driveId: "rootfs", isRootDevice: true, pathOnHost: "/rootfs.img" }],
        networkInterfaces: [{ ifaceId: "eth0", hostDevName: "tap0" }],
        mmds: { networkInterfaces: ["eth0"] },
        mmdsContents: { a: 1 },
        vsock: { guestCid: 3, udsPath: "v.sock" },
        logger: { logPath: "/log" },
        metrics: { metricsPath: "/metrics" },
      },
      signal,
    );
    assert.deepEqual(
      fake.asked.map(({ method, path }) => `${method} ${path}`),
      [
        "PUT /logger",
        "PUT /metrics",
        "PUT /machine-config",
        "PUT /boot-source",
        "PUT /drives/rootfs",
        "PUT /network-interfaces/eth0",
        "PUT /mmds/config",
        "PUT /mmds",
        "PUT /vsock",
      ],
    );
  });

  test("sends nothing of a configuration with a part that this version lacks", async () => {
    await using fake = await FakeFirecracker.start();
    const config = {
      machineConfig: { vcpuCount: 1, memSizeMib: 128 },
      bootSource: { kernelImagePath: "/vmlinux" },
    };
    const old = clientOf(fake, "1.12.1");
    await assert.rejects(old.configure({ ...config, serial: {} }, signal), { code: "feature.missing" });
    const wrong = { ...config, vsock: { guestCid: 2, udsPath: "v" } };
    await assert.rejects(old.configure(wrong, signal), { code: "input.invalid" });
    assert.equal(fake.asked.length, 0);
    await old.configure(config, signal);
    assert.equal(fake.asked.length, 2);
  });

  test("sends the values at the time of the call, whatever the caller changes meanwhile", async () => {
    const ids = ["eth0"];
    const bucket = { size: 10, refillTime: 100 };
    const contents = { nested: { kept: true } };
    await using fake = await FakeFirecracker.start((request, response) => {
      ids.push("eth9");
      bucket.size = 99;
      contents.nested.kept = false;
      accept(request, response);
    });
    await clientOf(fake).configure(
      {
        machineConfig: { vcpuCount: 1, memSizeMib: 128 },
        bootSource: { kernelImagePath: "/vmlinux" },
        networkInterfaces: [{ ifaceId: "eth0", hostDevName: "tap0", rxRateLimiter: { ops: bucket } }],
        mmds: { networkInterfaces: ids },
        mmdsContents: contents,
      },
      signal,
    );
    const bodies = Object.fromEntries(fake.asked.map(({ path, text }) => [path, JSON.parse(text)]));
    assert.equal(bodies["/network-interfaces/eth0"].rx_rate_limiter.ops.size, 10);
    assert.deepEqual(bodies["/mmds/config"].network_interfaces, ["eth0"]);
    assert.deepEqual(bodies["/mmds"], { nested: { kept: true } });
    assert.equal(bucket.size, 99); // Proves that the probe works: the caller did change it.
  });

  test("rejects, and does not throw, for values that break a rule", async () => {
    await using fake = await FakeFirecracker.start();
    const putting = clientOf(fake).putVsock({ guestCid: 2, udsPath: "v.sock" }, signal);
    await assert.rejects(putting, { code: "input.invalid", message: /^vsock\.guestCid must be >= 3/ });
    assert.equal(fake.asked.length, 0);
  });

  test("names request, status and reason when Firecracker refuses", async () => {
    await using fake = await FakeFirecracker.start((_, response) =>
      answerJson(response, 400, { fault_message: "Block device is not there." }),
    );
    const putting = clientOf(fake).putDrive(
      { driveId: "rootfs", isRootDevice: true, pathOnHost: "/none" },
      signal,
    );
    await assert.rejects(putting, {
      code: "vmm.failed",
      message: "Firecracker refused PUT /drives/rootfs with status 400: Block device is not there.",
    });
  });

  test("returns answers in camelCase, and MMDS contents unchanged", async () => {
    await using fake = await FakeFirecracker.start(({ path }, response) => {
      const info = { app_name: "Firecracker", id: "demo", state: "Running", vmm_version: "1.12.1" };
      const machine = { vcpu_count: 2, mem_size_mib: 256, smt: false, huge_pages: "None" };
      const bodies: Record<string, unknown> = {
        "/": info,
        "/machine-config": machine,
        "/mmds": { some_key: 1 },
        "/version": { firecracker_version: "1.12.1" },
      };
      answerJson(response, 200, bodies[path]);
    });
    const client = clientOf(fake, "1.12.1");
    assert.deepEqual(await client.describeInstance(signal), {
      appName: "Firecracker",
      id: "demo",
      state: "Running",
      vmmVersion: "1.12.1",
    });
    assert.deepEqual(await client.getMachineConfig(signal), {
      vcpuCount: 2,
      memSizeMib: 256,
      smt: false,
      hugePages: "None",
    });
    assert.deepEqual(await client.getMmds(signal), { some_key: 1 });
    assert.equal((await client.getVersion(signal)).text, "1.12.1");
  });

  test("has another deadline for snapshots", async () => {
    await using fake = await FakeFirecracker.start(() => {});
    const { socketPath } = fake;
    const version = parseFirecrackerVersion("1.16.1");
    const client = new FirecrackerClient({ socketPath, version, deadlineMs: 60_000, snapshotDeadlineMs: 20 });
    const creating = client.createSnapshot({ memFilePath: "/mem", snapshotPath: "/state" }, signal);
    await assert.rejects(creating, (error) => {
      assert.ok(error instanceof HearthError && error.code === "vmm.unresponsive");
      assert.match(error.message, /PUT \/snapshot\/create within 20 ms/);
      return true;
    });
  });
});
