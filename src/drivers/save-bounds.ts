/**
 * Bounds of a save: how many bytes, how much time, and how much of the host's disk it may take. A guest that changes
 * its memory as fast as it can, and a VMM that was taken over, end at them.
 */
import { dirname } from "node:path";
import { HearthError } from "#base/error.ts";
import { formatSizeRounded, MIB } from "#base/sizes.ts";
import { freeBytes } from "#host/free-space.ts";
import { LIMITS } from "#model/limits.ts";

/** The vCPUs are paused for the rest when this share of the memory was sent, or is known to have to be. */
const LIVE_SHARE = 1.5;
/** What is sent after that: the round that QEMU is in, and all that was changed during it; each page with a header. */
const REST_SHARE = 2.05;
/** Sent while the guest quiesces, and the state of the devices: some hundred KiB. */
const REST_MARGIN_BYTES = 192 * MIB;
/** The state without the memory. */
const DEVICES_MAX_BYTES = 128 * MIB;
/** How often a running guest's changes are sent again before its vCPUs are paused. */
export const ROUNDS_MAX = 10;

/** What a slow disk takes, under load. */
const SLOW_BYTES_PER_S = 10 * MIB;
const BASE_MS = 300_000;

/** Left free for the disks of the VMs that run: one that cannot be written to fails in its guest. */
const RESERVE_BYTES = 256 * MIB;

/** How much is sent while the guest runs. */
export function liveMaxBytes(memoryBytes: number): number {
  return LIVE_SHARE * memoryBytes;
}

/** More than this is never written, whatever the VMM sends. */
export function streamMaxBytes(memoryBytes: number): number {
  return liveMaxBytes(memoryBytes) + REST_SHARE * memoryBytes + REST_MARGIN_BYTES;
}

/** The same for a state that has no memory in it. */
export function stateMaxBytes(): number {
  return DEVICES_MAX_BYTES;
}

/** For the longest save of so much memory on a slow disk: 5 min and 100 s for each GiB. */
export function saveDeadlineMs(memoryBytes: number): number {
  return BASE_MS + Math.ceil((memoryBytes / SLOW_BYTES_PER_S) * 1_000);
}

/** What hearthd itself knows of a VM's memory; a VMM of an older hearthd is asked, and not believed beyond the limit. */
export async function memoryOf(
  memoryBytes: number | undefined,
  askVmm: () => Promise<number>,
): Promise<number> {
  return Math.min(memoryBytes ?? (await askVmm()), LIMITS.memoryMaxBytes);
}

/**
 * Refuses to write `needed` bytes to `path` where that would take what running VMs need for their disks. Asked before
 * a save, and while one is written.
 * @throws HearthError `host.disk_full`
 */
export async function checkRoom(path: string, needed: number): Promise<void> {
  const dir = dirname(path);
  const free = await freeBytes(dir);
  const wanted = needed + RESERVE_BYTES;
  if (free >= wanted) return;
  const text = `Cannot save the VM: ${formatSizeRounded(free)} are free in ${dir}, and it takes ${formatSizeRounded(wanted)}`;
  throw new HearthError(
    "host.disk_full",
    `${text}, of which ${formatSizeRounded(RESERVE_BYTES)} stay free for disks.`,
    {
      hint: "Free some space: `hearth ls`, `hearth snapshot ls` and `hearth image ls` show what takes it.",
    },
  );
}
