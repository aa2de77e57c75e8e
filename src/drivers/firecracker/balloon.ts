import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { GuestMemory } from "#drivers/vm-driver.ts";

export type BalloonTiming = {
  /** Between two questions. Firecracker knows what the guest has given at any time. */
  readonly askEveryMs: number;
  /** Of a guest that does not move. */
  readonly stuckAfterMs: number;
};

/** A guest that gives moves some MiB in this time, where KVM is emulated too. */
const TIMING: BalloonTiming = { askEveryMs: 50, stuckAfterMs: 5_000 };
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
 * Resolves when the guest has so much, or has not moved for a while. Firecracker takes no wish while the guest has
 * no driver for the balloon, so one that is about to load it is asked again; one that never does is not asked later.
 */
export async function inflateTo(
  client: FirecrackerClient,
  bytes: number,
  signal: AbortSignal,
  { askEveryMs, stuckAfterMs }: BalloonTiming = TIMING,
): Promise<GuestMemory> {
  let memory = await readMemory(client, signal);
  const totalMib = memory.maxBytes / MIB;
  // Of memory that is no whole number of MiB the guest has the whole ones, as at its start.
  const wantedMib = Math.min(Math.floor(bytes / MIB), totalMib);
  const amountMib = totalMib - wantedMib;
  let asked = await tryToAsk(client, amountMib, signal);
  let movedAt = performance.now();
  while (memory.bytes !== wantedMib * MIB && performance.now() - movedAt < stuckAfterMs) {
    await sleep(askEveryMs, undefined, { signal });
    asked ||= await tryToAsk(client, amountMib, signal);
    const now = await readMemory(client, signal);
    if (now.bytes !== memory.bytes) movedAt = performance.now();
    memory = now;
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
