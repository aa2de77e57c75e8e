import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";
import {
  checkRateLimiter,
  type RateLimiter,
  rateLimiterPayload,
} from "#drivers/firecracker/api/rate-limiter.ts";

/** A virtio-rng device. An empty object is a device without limit. */
export type Entropy = { readonly rateLimiter?: RateLimiter | undefined };

/** Returns the body of `PUT /entropy`. Pure. */
export function entropyPayload(entropy: Entropy): Payload {
  return payload({ rate_limiter: rateLimiterPayload(entropy.rateLimiter) });
}

/** Checks the rate limiter, the only field. */
export function checkEntropy(problems: Problems, at: string, entropy: Entropy): void {
  checkRateLimiter(problems, `${at}.rateLimiter`, entropy.rateLimiter);
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putEntropy(entropy: Entropy): ApiRequest {
  checked((problems) => checkEntropy(problems, "entropy", entropy));
  return apiRequest("PUT", "/entropy", entropyPayload(entropy));
}
