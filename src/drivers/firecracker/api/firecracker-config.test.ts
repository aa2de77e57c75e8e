import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errorBody } from "#base/error.ts";
import {
  type FirecrackerConfig,
  planConfigure,
  validateConfig,
} from "#drivers/firecracker/api/firecracker-config.ts";

const GOOD: FirecrackerConfig = {
  bootSource: { kernelImagePath: "/vmlinux" },
  machineConfig: { vcpuCount: 2, memSizeMib: 256 },
};
const ROOT = { driveId: "rootfs", isRootDevice: true, pathOnHost: "/rootfs.img" };
const DATA = { driveId: "data", isRootDevice: false, pathOnHost: "/data.img" };
const ETH0 = { ifaceId: "eth0", hostDevName: "tap0" };
const VSOCK = { guestCid: 3, udsPath: "v.sock" };
const BALLOON = { amountMib: 0, deflateOnOom: true };
const BUCKET = { size: 1, refillTime: 1 };

const everything: FirecrackerConfig = {
  ...GOOD,
  drives: [ROOT, DATA, { driveId: "vu", isRootDevice: false, socket: "/vu.sock" }],
  pmem: [{ id: "p0", pathOnHost: "/p.img" }],
  networkInterfaces: [{ ...ETH0, guestMac: "06:00:AC:10:00:02", mtu: 68 }],
  mmds: { version: "V1", networkInterfaces: ["eth0"], ipv4Address: "169.254.1.0" },
  vsock: VSOCK,
  balloon: { ...BALLOON, amountMib: 256 },
  memoryHotplug: { totalSizeMib: 128 },
  logger: { level: "Off" },
  metrics: { metricsPath: "m" },
  serial: { rateLimiter: BUCKET },
  entropy: { rateLimiter: { ops: BUCKET } },
};

/** Cases of one rule each: a change of the configuration, and the message about it. */
const BROKEN: readonly (readonly [Partial<Record<keyof FirecrackerConfig, unknown>>, string])[] = [
  [{ bootSource: undefined }, "bootSource is required."],
  [{ machineConfig: undefined }, "machineConfig is required."],
  [{ bootSource: {} }, "bootSource.kernelImagePath is required."],
  [{ bootSource: { kernelImagePath: "" } }, 'bootSource.kernelImagePath must be a path, and is "".'],
  [{ machineConfig: { vcpuCount: 1 } }, "machineConfig.memSizeMib is required."],
  [{ machineConfig: { vcpuCount: 0, memSizeMib: 1 } }, "machineConfig.vcpuCount must be >= 1, and is 0."],
  [{ machineConfig: { vcpuCount: 33, memSizeMib: 1 } }, "machineConfig.vcpuCount must be <= 32, and is 33."],
  [
    { machineConfig: { vcpuCount: 1.5, memSizeMib: 1 } },
    "machineConfig.vcpuCount must be a whole number, and is 1.5.",
  ],
  [
    { machineConfig: { vcpuCount: 3, memSizeMib: 1, smt: true } },
    "machineConfig.vcpuCount must be 1 or even with smt, and is 3.",
  ],
  [{ machineConfig: { vcpuCount: 1, memSizeMib: 0 } }, "machineConfig.memSizeMib must be >= 1, and is 0."],
  [
    { machineConfig: { vcpuCount: 1, memSizeMib: 255, hugePages: "2M" } },
    "machineConfig.memSizeMib must be even with hugePages 2M, and is 255.",
  ],
  [
    { machineConfig: { vcpuCount: 1, memSizeMib: 2, hugePages: "1G" } },
    'machineConfig.hugePages must be one of None, Transparent, 2M, and is "1G".',
  ],
  [
    { drives: [{ ...DATA, driveId: "my-disk" }] },
    'drives[0].driveId must be of letters, digits and underscores, and is "my-disk".',
  ],
  [{ drives: [{ ...DATA, isRootDevice: undefined }] }, "drives[0].isRootDevice is required."],
  [
    { drives: [{ driveId: "a", isRootDevice: false }] },
    "drives[0] must be given exactly one of pathOnHost and socket, and is [].",
  ],
  [
    { drives: [{ driveId: "a", isRootDevice: false, socket: "/s", ioEngine: "Sync" }] },
    'drives[0].ioEngine must be absent with socket, and is "Sync".',
  ],
  [
    { drives: [{ ...DATA, rateLimiter: { ops: { size: -1, refillTime: 1 } } }] },
    "drives[0].rateLimiter.ops.size must be >= 0, and is -1.",
  ],
  [
    { drives: [{ ...DATA, rateLimiter: { bandwidth: { size: 1 } } }] },
    "drives[0].rateLimiter.bandwidth.refillTime is required.",
  ],
  [
    { drives: [ROOT, { ...ROOT, driveId: "second" }] },
    'drives must be with one root device at most, and is ["rootfs","second"].',
  ],
  [
    { drives: [ROOT], pmem: [{ id: "p0", pathOnHost: "/p", rootDevice: true }] },
    'drives must be with one root device at most, and is ["rootfs","p0"].',
  ],
  [{ drives: [DATA, DATA] }, 'drives must be with different ids, and is ["data"].'],
  [
    { networkInterfaces: [{ ...ETH0, hostDevName: "t".repeat(16) }] },
    `networkInterfaces[0].hostDevName must be 1 to 15 bytes, and is "${"t".repeat(16)}".`,
  ],
  [
    { networkInterfaces: [{ ...ETH0, guestMac: "06:00" }] },
    'networkInterfaces[0].guestMac must be a MAC address such as 06:00:ac:10:00:02, and is "06:00".',
  ],
  [{ networkInterfaces: [{ ...ETH0, mtu: 67 }] }, "networkInterfaces[0].mtu must be >= 68, and is 67."],
  [{ vsock: { ...VSOCK, guestCid: 2 } }, "vsock.guestCid must be >= 3, and is 2."],
  [
    { vsock: { ...VSOCK, udsPath: "v".repeat(108) } },
    `vsock.udsPath must be at most 107 bytes, and is "${"v".repeat(99)}….`,
  ],
  [
    { balloon: { ...BALLOON, amountMib: 257 } },
    "balloon.amountMib must be <= machineConfig.memSizeMib (256), and is 257.",
  ],
  [{ balloon: { amountMib: 1 } }, "balloon.deflateOnOom is required."],
  [
    { balloon: { ...BALLOON, statsPollingIntervalS: 65_536 } },
    "balloon.statsPollingIntervalS must be <= 65535, and is 65536.",
  ],
  [
    { mmds: { networkInterfaces: ["eth1"] }, networkInterfaces: [ETH0] },
    'mmds.networkInterfaces[0] must be one of networkInterfaces, and is "eth1".',
  ],
  [{ mmds: { networkInterfaces: [] } }, "mmds.networkInterfaces must be at least one, and is []."],
  [
    { mmds: { networkInterfaces: ["eth0"], ipv4Address: "169.254.0.1" }, networkInterfaces: [ETH0] },
    'mmds.ipv4Address must be link-local, from 169.254.1.0 to 169.254.254.255, and is "169.254.0.1".',
  ],
  [
    { memoryHotplug: { totalSizeMib: 200 } },
    "memoryHotplug.totalSizeMib must be a multiple of slotSizeMib, and is 200.",
  ],
  [
    { memoryHotplug: { totalSizeMib: 384, blockSizeMib: 3, slotSizeMib: 192 } },
    "memoryHotplug.blockSizeMib must be a power of two, and is 3.",
  ],
  [{ metrics: {} }, "metrics.metricsPath is required."],
  [
    { balloon: { ...BALLOON, statsPollingIntervalS: Number.NaN } },
    "balloon.statsPollingIntervalS must be a whole number, and is null.",
  ],
  [
    { logger: { level: "Loud" } },
    'logger.level must be one of Error, Warning, Info, Debug, Trace, Off, and is "Loud".',
  ],
  [
    { serial: { rateLimiter: { size: 1.5, refillTime: 1 } } },
    "serial.rateLimiter.size must be a whole number, and is 1.5.",
  ],
  [
    { cpuConfig: { msrModifiers: [{ addr: "0x1", bitmap: "0x1" }] } },
    'cpuConfig.msrModifiers[0].bitmap must be a bitmap such as 0b1x0, and is "0x1".',
  ],
];

function problemsOf(changed: (typeof BROKEN)[number][0]): string[] {
  // Values that a program without types, or JSON from outside, may give.
  return validateConfig({ ...GOOD, ...changed } as FirecrackerConfig).map(({ message }) => message);
}

describe("a configuration", () => {
  test("that keeps every rule has no problems", () => {
    assert.deepEqual(problemsOf({}), []);
    assert.deepEqual(problemsOf(everything), []);
  });

  for (const [changed, sentence] of BROKEN) {
    test(`is refused with: ${sentence.slice(0, 80)}`, () => {
      assert.ok(problemsOf(changed).includes(sentence), problemsOf(changed).join("\n"));
    });
  }

  test("reports all its problems at once, each with the code of bad input", () => {
    const broken = {
      ...GOOD,
      vsock: { guestCid: 0, udsPath: "" },
      drives: [ROOT, { ...ROOT, driveId: "b" }],
    };
    const problems = validateConfig(broken);
    assert.deepEqual(
      problems.map(({ code, message }) => `${code} ${message}`),
      [
        "input.invalid vsock.guestCid must be >= 3, and is 0.",
        'input.invalid vsock.udsPath must be a path, and is "".',
        'input.invalid drives must be with one root device at most, and is ["rootfs","b"].',
      ],
    );
    assert.throws(
      () => planConfigure(broken),
      (error) => {
        const body = errorBody(error);
        assert.equal(body.code, "input.invalid");
        assert.equal(body.message, problems.map(({ message }) => message).join(" "));
        return true;
      },
    );
  });
});

describe("the requests of a configuration", () => {
  test("treat null as absent, as JSON from outside may have it", () => {
    const read = JSON.parse('{"vsock": null, "balloon": null, "drives": null}') as Partial<FirecrackerConfig>;
    const requests = planConfigure({ ...GOOD, ...read });
    assert.deepEqual(
      requests.map(({ path }) => path),
      ["/machine-config", "/boot-source"],
    );
    const drive = JSON.parse('{"rateLimiter": null, "partuuid": null, "socket": null}') as object;
    const [, , put] = planConfigure({ ...GOOD, drives: [{ ...DATA, ...drive }] });
    assert.deepEqual(put?.body, { drive_id: "data", is_root_device: false, path_on_host: "/data.img" });
  });

  test("are copies, whatever happens to the configuration later", () => {
    const limiter = { ops: { size: 5, refillTime: 100 } };
    const interfaces = ["eth0"];
    const contents: Record<string, string> = { a: "before" };
    const requests = planConfigure({
      ...GOOD,
      drives: [{ ...DATA, rateLimiter: limiter }],
      networkInterfaces: [ETH0],
      mmds: { networkInterfaces: interfaces },
      mmdsContents: contents,
    });
    const before = JSON.stringify(requests);
    limiter.ops.size = 6;
    interfaces.push("eth1");
    contents["a"] = "after";
    assert.equal(JSON.stringify(requests), before);
  });
});
