import { type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import type { Problems } from "#drivers/firecracker/api/problems.ts";

/**
 * A bucket of `size` tokens that refills evenly within `refillTime` ms: the long-term rate is size / refillTime. A size
 * or a refill time of 0 removes the limit, also in a PATCH.
 */
export type TokenBucket = {
  /** Bytes for bandwidth, operations for ops. */
  readonly size: number;
  /** Tokens that are spent once, before those of the bucket itself. */
  readonly oneTimeBurst?: number | undefined;
  /** Milliseconds. */
  readonly refillTime: number;
};

/** Both limits apply together. In a PATCH an absent one stays as it is. */
export type RateLimiter = {
  readonly bandwidth?: TokenBucket | undefined;
  readonly ops?: TokenBucket | undefined;
};

/** Returns a bucket as it is in a body. Pure. */
export function tokenBucketPayload(bucket: TokenBucket): Payload {
  return payload({
    size: bucket.size,
    one_time_burst: bucket.oneTimeBurst,
    refill_time: bucket.refillTime,
  });
}

/** Returns undefined for undefined, so that the field is left out. Pure. */
export function rateLimiterPayload(limiter: RateLimiter | undefined): Payload | undefined {
  if (limiter === undefined) return undefined;
  return payload({
    bandwidth: limiter.bandwidth && tokenBucketPayload(limiter.bandwidth),
    ops: limiter.ops && tokenBucketPayload(limiter.ops),
  });
}

/** Checks that size and refill time are given, and that no number is negative. */
export function checkTokenBucket(problems: Problems, at: string, bucket: TokenBucket | undefined): void {
  if (bucket === undefined) return;
  if (problems.required(`${at}.size`, bucket.size)) problems.integer(`${at}.size`, bucket.size, 0);
  if (problems.required(`${at}.refillTime`, bucket.refillTime))
    problems.integer(`${at}.refillTime`, bucket.refillTime, 0);
  problems.integer(`${at}.oneTimeBurst`, bucket.oneTimeBurst, 0);
}

/** Checks both buckets; an absent one has no problem. */
export function checkRateLimiter(problems: Problems, at: string, limiter: RateLimiter | undefined): void {
  checkTokenBucket(problems, `${at}.bandwidth`, limiter?.bandwidth);
  checkTokenBucket(problems, `${at}.ops`, limiter?.ops);
}
