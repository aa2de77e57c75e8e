/**
 * The limits of a save: bytes, time, and space on the host's disk. They stop a guest that changes its memory as fast as
 * it can, and a VMM that was taken over.
 */
import { dirname } from "node:path";
import { HearthError } from "#base/error.ts";
import { formatSizeRounded, MIB } from "#base/sizes.ts";
import { freeBytes } from "#host/free-space.ts";
import { LIMITS } from "#model/limits.ts";

/** The vCPUs are paused for the rest when this share of the memory was sent, or is known to have to be. */
const LIVE_SHARE = 1.5;
/** The share that is sent after that: QEMU's present round, and all that changed during it; each page has a header. */
const REST_SHARE = 2.05;
/** The bytes that are sent while the guest quiesces, and the state of the devices: some hundred KiB. */
const REST_MARGIN_BYTES = 192 * MIB;
/** The most that a state without memory takes. */
const DEVICES_MAX_BYTES = 128 * MIB;
/** The number of times that a running guest's changes are sent again before its vCPUs are paused. */
export const ROUNDS_MAX = 10;

/** The speed of a slow disk under load. */
const SLOW_BYTES_PER_S = 10 * MIB;
const BASE_MS = 300_000;

/** Space that stays free for the disks of running VMs: a guest fails when its disk cannot be written to. */
const RESERVE_BYTES = 256 * MIB;

/** Returns how much is sent while the guest runs. */
export function liveMaxBytes(memoryBytes: number): number {
  return LIVE_SHARE * memoryBytes;
}

/** Returns the most that is ever written, whatever the VMM sends. */
export function streamMaxBytes(memoryBytes: number): number {
  return liveMaxBytes(memoryBytes) + REST_SHARE * memoryBytes + REST_MARGIN_BYTES;
}

/** Returns the most that is written of a state without memory. */
export function stateMaxBytes(): number {
  return DEVICES_MAX_BYTES;
}

/** Returns the time of the longest save of so much memory on a slow disk: 5 min, and 100 s for each GiB. */
export function saveDeadlineMs(memoryBytes: number): number {
  return BASE_MS + Math.ceil((memoryBytes / SLOW_BYTES_PER_S) * 1_000);
}

/**
 * Returns the size of a VM's memory as hearthd knows it. The VMM of an older hearthd is asked, and believed up to the
 * limit of a VM's memory.
 */
export async function memoryOf(
  memoryBytes: number | undefined,
  askVmm: () => Promise<number>,
): Promise<number> {
  return Math.min(memoryBytes ?? (await askVmm()), LIMITS.memoryMaxBytes);
}

/**
 * Refuses to write `needed` bytes to `path` where running VMs would lack them for their disks. Called before a save,
 * and while one is written.
 * @throws HearthError `host.disk_full`
 */
export async function checkRoom(path: string, needed: number): Promise<void> {
  const dir = dirname(path);
  const free = await freeBytes(dir);
  const wanted = needed + RESERVE_BYTES;
  if (free >= wanted) return;
  const text = `Cannot save the VM: ${dir} has ${formatSizeRounded(free)} free, and the snapshot needs ${formatSizeRounded(wanted)}`;
  throw new HearthError(
    "host.disk_full",
    `${text}, of which ${formatSizeRounded(RESERVE_BYTES)} are a reserve for disks.`,
    {
      hint: "Free some space: `hearth ls`, `hearth snapshot ls` and `hearth image ls` show what uses it.",
    },
  );
}
