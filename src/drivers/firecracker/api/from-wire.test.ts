import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { VmConfig } from "#drivers/firecracker/api/answers.ts";
import { fromWire } from "#drivers/firecracker/api/from-wire.ts";

/** The answer of 1.12.1 to GET /vm/config, and the metrics of 1.17. */
const ANSWERED = {
  balloon: null,
  drives: [
    {
      drive_id: "rootfs",
      partuuid: null,
      is_root_device: true,
      cache_type: "Unsafe",
      is_read_only: false,
      path_on_host: "/rootfs.img",
      rate_limiter: { bandwidth: { size: 10, one_time_burst: null, refill_time: 100 }, ops: null },
      io_engine: "Sync",
      socket: null,
    },
  ],
  "boot-source": { kernel_image_path: "/vmlinux", initrd_path: null, boot_args: null },
  "cpu-config": null,
  "machine-config": { vcpu_count: 1, mem_size_mib: 128, smt: false, huge_pages: "None" },
  metrics: { metrics_path: "/m", properties: { some_key: "x" } },
  "mmds-config": null,
  "network-interfaces": [],
  vsock: null,
};

describe("an answer", () => {
  test("is in camelCase; null is absent, and names that a user chose stay", () => {
    assert.deepEqual(fromWire<VmConfig>("GET /vm/config", ANSWERED), {
      drives: [
        {
          driveId: "rootfs",
          isRootDevice: true,
          cacheType: "Unsafe",
          isReadOnly: false,
          pathOnHost: "/rootfs.img",
          rateLimiter: { bandwidth: { size: 10, refillTime: 100 } },
          ioEngine: "Sync",
        },
      ],
      bootSource: { kernelImagePath: "/vmlinux" },
      machineConfig: { vcpuCount: 1, memSizeMib: 128, smt: false, hugePages: "None" },
      metrics: { metricsPath: "/m", properties: { some_key: "x" } },
      networkInterfaces: [],
    });
  });

  for (const body of [undefined, null, "text", 7, [1]]) {
    test(`that is ${JSON.stringify(body)} is an error`, () => {
      assert.throws(() => fromWire("GET /", body), {
        code: "vmm.failed",
        message: /^Firecracker answered GET \/ with .+, not with an object\.$/,
      });
    });
  }
});
