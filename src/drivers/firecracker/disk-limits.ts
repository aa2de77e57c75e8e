/** Limits as Firecracker's token buckets: in the configuration before the start, and on a VM that runs. */
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { RateLimiter, TokenBucket } from "#drivers/firecracker/api/rate-limiter.ts";
import { isLimitedDrive } from "#drivers/firecracker/drive-id.ts";
import type { VmLimits } from "#drivers/vm-driver.ts";
import type { RateLimit } from "#model/rate-limit.ts";

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

/** Gives each of the VM's own disks these limits, and takes away what is not in them. */
export async function limitDrives(
  client: FirecrackerClient,
  { disk }: VmLimits,
  signal: AbortSignal,
): Promise<void> {
  const { drives = [] } = await client.getVmConfig(signal);
  // In a PATCH a bucket that is left out stays as it is.
  const { bandwidth = UNLIMITED, ops = UNLIMITED } = bucketsOf(disk) ?? {};
  for (const { driveId } of drives) {
    if (isLimitedDrive(driveId))
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
