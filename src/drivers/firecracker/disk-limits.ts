/** Sets limits as Firecracker's token buckets: in the configuration before the start, and on a running VM. */
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { RateLimiter, TokenBucket } from "#drivers/firecracker/api/rate-limiter.ts";
import { limitOf } from "#drivers/device-limits.ts";
import { diskOfDrive } from "#drivers/firecracker/drive-id.ts";
import type { DeviceLimits } from "#drivers/vm-driver.ts";
import type { RateLimit } from "#model/rate-limit.ts";
import type { VmHandle } from "#model/vm-handle.ts";

/**
 * The size of a bucket without a given burst, in seconds of its rate. Firecracker's buckets are coarse for requests of
 * about their size: Firecracker checks a bucket that is not full enough again after 100 ms, and loses the tokens that
 * do not fit any more by then. The time that a request larger than the bucket waits fills the bucket too
 * (rate_limiter/mod.rs).
 */
const BUCKET_S = 1;
const UNLIMITED: TokenBucket = { size: 0, refillTime: 0 };

/** Returns the buckets before the start; what is not limited is left out. Pure. */
export function bucketsOf(limit: RateLimit | undefined): RateLimiter | undefined {
  if (limit === undefined) return undefined;
  const { bandwidthBytesPerS, bandwidthBurstBytes, opsPerS, opsBurst } = limit;
  return {
    bandwidth: bandwidthBytesPerS === undefined ? undefined : bucket(bandwidthBytesPerS, bandwidthBurstBytes),
    ops: opsPerS === undefined ? undefined : bucket(opsPerS, opsBurst),
  };
}

/** Sets the limits of the named disks; a missing limit removes the disk's limit. Other disks keep theirs. */
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
 * Returns a bucket that is never empty: an empty one would be no limit. Rounding to whole milliseconds changes the rate
 * by less than half a percent.
 */
function bucket(perS: number, burst: number | undefined): TokenBucket {
  const size = burst ?? Math.ceil(perS * BUCKET_S);
  return { size, refillTime: Math.round((size / perS) * 1_000) };
}
