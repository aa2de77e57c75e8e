import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { BALLOON_PATIENCE, BalloonProgress } from "#drivers/balloon-progress.ts";
import type { BalloonPatience } from "#drivers/balloon-progress.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { GuestMemory } from "#drivers/vm-driver.ts";

export type BalloonTiming = BalloonPatience & {
  /** Between two questions. Firecracker knows what the guest has given at any time. */
  readonly askEveryMs: number;
};

const TIMING: BalloonTiming = { ...BALLOON_PATIENCE, askEveryMs: 50 };
/** Of the virtio standard, whatever the guest's own are. */
const PAGE_BYTES = 4_096;
/** How the versions say that no driver in the guest has taken the device. */
const NO_DRIVER = /Device is inactive|Device not activated/;

/** What the guest has, and what Firecracker was started with. */
export async function readMemory(client: FirecrackerClient, signal: AbortSignal): Promise<GuestMemory> {
  const { memSizeMib } = await client.getMachineConfig(signal);
  const { actualPages } = await client.getBalloonStatistics(signal);
  const maxBytes = memSizeMib * MIB;
  return { bytes: maxBytes - actualPages * PAGE_BYTES, maxBytes };
}

/**
 * Resolves when the guest has so much, or is not waited for any longer. Firecracker takes no wish while the guest has
 * no driver for the balloon, so one that is about to load it is asked again; one that never does is not asked later.
 */
export async function inflateTo(
  client: FirecrackerClient,
  bytes: number,
  signal: AbortSignal,
  { askEveryMs, ...patience }: BalloonTiming = TIMING,
): Promise<GuestMemory> {
  let memory = await readMemory(client, signal);
  const totalMib = memory.maxBytes / MIB;
  // Of memory that is no whole number of MiB the guest has the whole ones, as at its start.
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

/** False when the guest has no driver. */
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
