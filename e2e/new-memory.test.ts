/** Saves leave pages of zeros out. That counts on this: a QEMU that waits for a memory has one that is all zeros. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, statSync, writeSync, closeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { qemuArguments, qemuSockets } from "#drivers/qemu/command-line.ts";
import { findFirmware } from "#drivers/qemu/features.ts";
import { DEFAULT_QEMU } from "#drivers/qemu/installed-qemu.ts";
import { readTscKhz } from "#drivers/qemu/host-clock.ts";
import { testedQemu } from "./tested-qemu.ts";
import { TinyVms } from "./tiny-vms.ts";

/** Resolves when QEMU has made its machine and answers. */
async function untilGreeting(socket: string): Promise<void> {
  for (;;) {
    const monitor = connect(socket);
    try {
      await once(monitor, "data");
      return;
    } catch {
      await sleep(20); // It does not listen yet.
    } finally {
      monitor.destroy();
    }
  }
}

test(
  "a QEMU that waits for a saved memory has written nothing into its own",
  { timeout: 60_000 },
  async (t) => {
    await using vms = new TinyVms();
    const plan = await vms.plan("power-off");
    const program = testedQemu() ?? DEFAULT_QEMU;
    const path = join(vms.dir, "memory");
    const firmware = await findFirmware(program, t.signal);
    const memory = { path, map: "draft" } as const;
    const machine = { accel: "tcg", firmware, tscKhz: readTscKhz(), memory, incoming: "/dev/null" } as const;
    const qemu = spawn(program, qemuArguments(plan, machine), { stdio: ["ignore", "ignore", "inherit"] });
    t.after(() => qemu.kill("SIGKILL"));
    await untilGreeting(qemuSockets(plan.runDir).monitor);
    const { size, blocks } = statSync(path);
    assert.deepEqual({ size, blocks }, { size: plan.memoryBytes, blocks: 0 });
    // Whatever is written there shows.
    const file = openSync(path, "r+");
    writeSync(file, "x", size / 2);
    closeSync(file);
    assert.ok(statSync(path).blocks > 0);
  },
);
