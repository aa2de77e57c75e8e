import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { BALLOON_PATIENCE, BalloonProgress } from "#drivers/balloon-progress.ts";
import type { BalloonPatience } from "#drivers/balloon-progress.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { GuestMemory } from "#drivers/vm-driver.ts";

export type BalloonTiming = BalloonPatience & {
  /** The interval of questions. Firecracker knows at any time what the guest has given. */
  readonly askEveryMs: number;
};

const TIMING: BalloonTiming = { ...BALLOON_PATIENCE, askEveryMs: 50 };
/** The page of the virtio standard, whatever the guest's page size is. */
const PAGE_BYTES = 4_096;
/** The errors in which versions of Firecracker say that no driver in the guest has initialized the device. */
const NO_DRIVER = /Device is inactive|Device not activated/;

/** Returns what the guest has, and what Firecracker was started with. */
export async function readMemory(client: FirecrackerClient, signal: AbortSignal): Promise<GuestMemory> {
  const { memSizeMib } = await client.getMachineConfig(signal);
  const { actualPages } = await client.getBalloonStatistics(signal);
  const maxBytes = memSizeMib * MIB;
  return { bytes: maxBytes - actualPages * PAGE_BYTES, maxBytes };
}

/**
 * Sets the balloon's target. Resolves when the guest has so much memory, or makes no more progress. Firecracker accepts
 * no target before the guest has loaded its balloon driver. So the target is set again until it has; it is not set
 * later.
 */
export async function inflateTo(
  client: FirecrackerClient,
  bytes: number,
  signal: AbortSignal,
  { askEveryMs, ...patience }: BalloonTiming = TIMING,
): Promise<GuestMemory> {
  let memory = await readMemory(client, signal);
  const totalMib = memory.maxBytes / MIB;
  // A guest with a fraction of a MiB gets only whole MiB, as at its start.
  const wantedMib = Math.min(Math.floor(bytes / MIB), totalMib);
  const amountMib = totalMib - wantedMib;
  let asked = await tryToAsk(client, amountMib, signal);
  const progress = new BalloonProgress(wantedMib * MIB, patience);
  while (progress.isUnderWay(memory.bytes)) {
    await sleep(askEveryMs, undefined, { signal });
    asked ||= await tryToAsk(client, amountMib, signal);
    memory = await readMemory(client, signal);
  }
  return memory;
}

/** Returns false when the guest has no driver. */
async function tryToAsk(client: FirecrackerClient, amountMib: number, signal: AbortSignal): Promise<boolean> {
  try {
    await client.patchBalloon({ amountMib }, signal);
    return true;
  } catch (error) {
    if (error instanceof HearthError && error.code === "vmm.failed" && NO_DRIVER.test(error.message))
      return false;
    throw error;
  }
}
