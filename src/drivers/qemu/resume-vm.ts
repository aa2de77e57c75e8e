import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { readVmStatus } from "#drivers/qemu/vm-status.ts";

/** The time in which another pause is noticed: QEMU tries the failed write again at once. */
const RETRY_MS = 500;
const LOOK_MS = 50;

/**
 * Resumes the vCPUs. A VM that QEMU has paused because of its disk is paused again where the disk is as before.
 * @throws HearthError `host.disk_full`, `vmm.failed` for a disk that fails, `vmm.unresponsive`
 */
export async function resumeVm(monitor: QmpMonitor, deadlineMs: number, signal: AbortSignal): Promise<void> {
  const before = await readVmStatus(monitor, deadlineMs);
  await monitor.send("cont", undefined, deadlineMs);
  if (before !== "disk-full" && before !== "disk-failed") return;
  for (let waitedMs = 0; waitedMs < RETRY_MS; waitedMs += LOOK_MS) {
    await sleep(LOOK_MS, undefined, { signal });
    const now = await readVmStatus(monitor, deadlineMs);
    if (now === "disk-full")
      throw new HearthError("host.disk_full", "The disk of the host is still full, so the VM stays paused.", {
        hint: "Free some space where the disk and the volumes of the VM are, then resume the VM.",
      });
    if (now === "disk-failed")
      throw new HearthError("vmm.failed", "QEMU still cannot read or write a disk, so the VM stays paused.");
  }
}
