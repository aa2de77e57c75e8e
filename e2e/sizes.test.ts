/**
 * The sizes that VMs can have, on the machine that QEMU makes of them: a kernel, an init that powers off, and a disk.
 * Firmware has been seen to hang at one size and to boot a MiB more or less, but only with a disk.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { formatSize, GIB, MIB } from "#base/sizes.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import type { VmExit } from "#model/vm-handle.ts";
import { testedQemu } from "./tested-qemu.ts";
import { TINY_READY } from "./tiny-initramfs.ts";
import { TinyVms } from "./tiny-vms.ts";

const signal = AbortSignal.timeout(600_000);
/** Bounds one boot. An emulated kernel takes 2 s on an idle machine. */
const BOOT_MS = 60_000;

/** Each size of memory and each number of CPUs at least once; the defaults of `hearth run` are among them. */
const SIZES = [
  { memoryBytes: 128 * MIB, cpus: 1 },
  { memoryBytes: 256 * MIB, cpus: 4 },
  { memoryBytes: GIB, cpus: 3 },
  { memoryBytes: 2 * GIB, cpus: 1 },
  { memoryBytes: 2 * GIB, cpus: 2 },
  { memoryBytes: 4 * GIB, cpus: 4 },
  { memoryBytes: 8 * GIB, cpus: 2 },
];
const NESTED = { memoryBytes: 2 * GIB, cpus: 1, nested: true };

type Booted = { readonly reason: VmExit["reason"]; readonly console: string };

/** Boots it once, and waits until it has powered itself off; for a minute at most. */
async function boot(size: Partial<BootPlan>): Promise<Booted> {
  await using vms = new TinyVms();
  const disk = join(vms.dir, "disk.raw");
  writeFileSync(disk, Buffer.alloc(MIB));
  const driver = new QemuDriver({ program: testedQemu() });
  const disks = [{ id: "own", path: disk, format: "raw", readOnly: false }] as const;
  const plan = await vms.plan("power-off", { ...size, disks });
  const handle = await driver.boot(plan, () => {}, signal);
  const ended = Promise.withResolvers<VmExit>();
  driver.watch(handle, { exited: ended.resolve, silent: () => {} }, signal);
  const late = setTimeout(() => void driver.stop(handle, "kill", signal), BOOT_MS);
  const { reason } = await ended.promise;
  clearTimeout(late);
  return { reason, console: readFileSync(join(plan.stateDir, "console.log"), "latin1") };
}

describe("a VM boots with", { concurrency: false }, () => {
  for (const size of [...SIZES, NESTED]) {
    const machine = "nested" in size ? ", and can run VMs itself" : "";
    test(`${formatSize(size.memoryBytes)} and ${size.cpus} CPUs${machine}`, async () => {
      let booted = await boot(size);
      // An emulated kernel hangs now and then (`bootRetries` of the driver says why), and with `quiet` it prints
      // nothing.
      // Firmware that cannot boot a size hangs both times.
      if (booted.reason !== "guest") booted = await boot(size);
      const { reason, console } = booted;
      assert.equal(reason, "guest", `It did not power itself off. Its console: ${console}`);
      assert.match(console, new RegExp(TINY_READY));
    });
  }
});
