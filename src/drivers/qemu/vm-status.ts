import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";

/** QEMU's run states (qapi/run-state.json). A QEMU that was taken over may report any of them. */
const STATUS: Readonly<Record<string, VmmStatus>> = {
  running: "running",
  // The guest has suspended itself (ACPI S3), and resumes by itself.
  suspended: "running",
  paused: "paused",
  prelaunch: "paused",
  inmigrate: "paused",
  postmigrate: "paused",
  "finish-migrate": "paused",
  "save-vm": "paused",
  "restore-vm": "paused",
  "io-error": "disk-failed",
  // KVM cannot run the guest's instructions any further.
  "internal-error": "broken",
};

/**
 * Returns the state of the VM's vCPUs as QEMU reports it; undefined for a state that says nothing of them, such as that
 * of a guest that is powering off.
 */
export async function readVmStatus(monitor: QmpMonitor, deadlineMs: number): Promise<VmmStatus | undefined> {
  const answer: unknown = await monitor.send("query-status", undefined, deadlineMs);
  const said = propertyOf(answer, "status");
  const status = typeof said === "string" && Object.hasOwn(STATUS, said) ? STATUS[said] : undefined;
  return status === "disk-failed" ? readDiskFailure(monitor, deadlineMs) : status;
}

async function readDiskFailure(monitor: QmpMonitor, deadlineMs: number): Promise<VmmStatus> {
  const disks: unknown = await monitor.send("query-block", undefined, deadlineMs);
  const isFull = Array.isArray(disks) && disks.some((disk) => propertyOf(disk, "io-status") === "nospace");
  return isFull ? "disk-full" : "disk-failed";
}

function propertyOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}
