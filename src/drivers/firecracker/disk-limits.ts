/** Limits as Firecracker's token buckets: in the configuration before the start, and on a VM that runs. */
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { RateLimiter, TokenBucket } from "#drivers/firecracker/api/rate-limiter.ts";
import { limitOf } from "#drivers/device-limits.ts";
import { diskOfDrive } from "#drivers/firecracker/drive-id.ts";
import type { DeviceLimits } from "#drivers/vm-driver.ts";
import type { RateLimit } from "#model/rate-limit.ts";
import type { VmHandle } from "#model/vm-handle.ts";

/**
 * A bucket of which nobody said how much it holds has so much of its rate. Firecracker's are coarse for requests of
 * about the bucket's size: it asks one that is not full enough again after 100 ms, when what does not fit any more is
 * lost; and the time that a request larger than the bucket has to wait fills the bucket too (rate_limiter/mod.rs).
 */
const BUCKET_S = 1;
const UNLIMITED: TokenBucket = { size: 0, refillTime: 0 };

/** Before the start: nothing is said of what is not limited. Pure. */
export function bucketsOf(limit: RateLimit | undefined): RateLimiter | undefined {
  if (limit === undefined) return undefined;
  const { bandwidthBytesPerS, bandwidthBurstBytes, opsPerS, opsBurst } = limit;
  return {
    bandwidth: bandwidthBytesPerS === undefined ? undefined : bucket(bandwidthBytesPerS, bandwidthBurstBytes),
    ops: opsPerS === undefined ? undefined : bucket(opsPerS, opsBurst),
  };
}

/** Gives the disks that are named these limits, and takes away what is not in them. Others stay as they are. */
export async function limitDrives(
  client: FirecrackerClient,
  handle: Pick<VmHandle, "disks">,
  { disks = {} }: DeviceLimits,
  signal: AbortSignal,
): Promise<void> {
  const { drives = [] } = await client.getVmConfig(signal);
  for (const { driveId } of drives) {
    const found = limitOf(disks, diskOfDrive(driveId, handle));
    if (found === undefined) continue;
    // In a PATCH a bucket that is left out stays as it is.
    const { bandwidth = UNLIMITED, ops = UNLIMITED } = bucketsOf(found.limit) ?? {};
    await client.patchDrive({ driveId, rateLimiter: { bandwidth, ops } }, signal);
  }
}

/**
 * Never one that is empty, which would be no limit. What a whole number of milliseconds takes off the rate is
 * less than half a percent.
 */
function bucket(perS: number, burst: number | undefined): TokenBucket {
  const size = burst ?? Math.ceil(perS * BUCKET_S);
  return { size, refillTime: Math.round((size / perS) * 1_000) };
}
