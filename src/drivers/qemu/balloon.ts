import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { BALLOON_PATIENCE, BalloonProgress } from "#drivers/balloon-progress.ts";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { GuestMemory } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";

/** QEMU reports a change once a second at most; asking costs nothing. */
const ASK_EVERY_MS = 50;

/** Returns what the guest has, and what QEMU was started with. */
export async function readMemory(monitor: QmpMonitor, deadlineMs: number): Promise<GuestMemory> {
  const { actual } = await monitor.send("query-balloon", undefined, deadlineMs);
  const size = await monitor.send("query-memory-size-summary", undefined, deadlineMs);
  return { bytes: actual, maxBytes: size["base-memory"] };
}

/**
 * Refuses to ask a guest for memory that QEMU could not free, because the guest memory file is open read-only: QEMU
 * would count the pages as free, and write a line into its log for each of them.
 * @throws HearthError `feature.missing`
 */
export function assertFrees(
  { sharesMemory, snapshot }: Pick<VmHandle, "sharesMemory" | "snapshot">,
  now: GuestMemory,
  bytes: number,
): void {
  // A VMM that an older hearthd has started does not say: if it was restored, it maps a file that it shares.
  const shares = sharesMemory ?? snapshot !== undefined;
  if (!shares || bytes >= now.bytes) return;
  throw new HearthError(
    "feature.missing",
    "QEMU cannot free memory of this VM while it runs: it was restored, and shares a guest memory file with other VMs.",
    { hint: "Stop the VM and start it, so that it boots. VMs created with --cold can free memory, too." },
  );
}

/** Sets the balloon's target. Resolves when the guest has so much memory, or makes no more progress. */
export async function inflateTo(
  monitor: QmpMonitor,
  bytes: number,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<GuestMemory> {
  await monitor.send("balloon", { value: bytes }, deadlineMs);
  let memory = await readMemory(monitor, deadlineMs);
  const progress = new BalloonProgress(bytes, BALLOON_PATIENCE);
  while (progress.isUnderWay(memory.bytes)) {
    await sleep(ASK_EVERY_MS, undefined, { signal });
    memory = await readMemory(monitor, deadlineMs);
  }
  return memory;
}
