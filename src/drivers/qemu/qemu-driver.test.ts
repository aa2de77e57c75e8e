import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { writeFakeQemu } from "#testing/fake-qemu.ts";

const never = new AbortController().signal;

/** The directories of a VM, and a program in QEMU's place. */
class Place implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), "qemu-"));

  plan(runDir = join(this.dir, "run")): BootPlan {
    const stateDir = join(this.dir, "state");
    for (const dir of [stateDir, runDir]) mkdirSync(dir, { recursive: true });
    return {
      id: vmIdFrom(new Uint8Array(12)),
      name: parseVmName("web"),
      stateDir,
      runDir,
      kernel: "/none",
      initramfs: "/none",
      kernelArgs: [],
      disks: [],
      cpus: 1,
      memoryBytes: 2 ** 28,
      nics: [],
      init: "agent",
      nested: false,
      isolation: NO_ISOLATION,
    };
  }
  program(script: string): string {
    return writeFakeQemu(this.dir, script);
  }
  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true });
  }
}

function failure(place: Place, program: string, plan = place.plan()): Promise<HearthError> {
  const driver = new QemuDriver({ program });
  return driver
    .boot(plan, () => {}, never)
    .then(
      () => assert.fail("the boot succeeded"),
      (error: unknown) => {
        assert.ok(error instanceof HearthError, String(error));
        return error;
      },
    );
}

describe("a boot that cannot succeed", () => {
  test("fails at once when the VMM ends at once, and leaves nothing", async () => {
    using place = new Place();
    const error = await failure(place, place.program("exit 1"));
    assert.equal(error.code, "vmm.failed");
    assert.match(error.message, /exited with code 1/);
    assert.deepEqual(readdirSync(place.plan().runDir), []);
  });

  test("reports the VMM's stderr tail, and not that of an earlier start", async () => {
    using place = new Place();
    const plan = place.plan();
    writeFileSync(join(plan.stateDir, "vmm.log"), "from last time\n");
    const error = await failure(place, place.program("echo out of luck >&2; exit 3"), plan);
    assert.match(error.message, /exited with code 3/);
    assert.equal((error.cause as Error).message, "out of luck");
  });

  test("reports the signal that ended the VMM", async () => {
    using place = new Place();
    assert.match((await failure(place, place.program("kill -SEGV $$"))).message, /was killed by SIGSEGV/);
  });

  test("names the package when QEMU is not installed", async () => {
    using place = new Place();
    assert.equal((await failure(place, "/nowhere/qemu-system-x86_64")).code, "vmm.missing");
    const features = await new QemuDriver({ program: "qemu-system-nowhere" }).features(never);
    assert.equal(features.available.ok, false);
  });

  test("refuses a run directory that is too long for sockets, before anything starts", async () => {
    using place = new Place();
    const error = await failure(place, place.program("exit 0"), place.plan(join(place.dir, "r".repeat(90))));
    assert.equal(error.code, "host.path_too_long");
  });

  test("a VMM that never answers is killed after its deadline", async () => {
    using place = new Place();
    const driver = new QemuDriver({
      program: place.program("exec sleep 600"),
      timing: { startDeadlineMs: 50 },
    });
    await assert.rejects(
      driver.boot(place.plan(), () => {}, never),
      (error: HearthError) => {
        return error.code === "vmm.unresponsive";
      },
    );
  });
});
