import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";
import {
  checkRateLimiter,
  type RateLimiter,
  rateLimiterPayload,
} from "#drivers/firecracker/api/rate-limiter.ts";

/** A file that the guest maps as its memory, from /dev/pmem0 on. Since 1.14. */
export type Pmem = {
  readonly id: string;
  readonly pathOnHost: string;
  readonly rootDevice?: boolean | undefined;
  readonly readOnly?: boolean | undefined;
  /** Since 1.16. */
  readonly rateLimiter?: RateLimiter | undefined;
};

/** A change of a running VM's device, since 1.16. */
export type PmemPatch = Pick<Pmem, "id" | "rateLimiter">;

/** Returns the body of `PUT /pmem/{id}`. Pure. */
export function pmemPayload(pmem: Pmem): Payload {
  return payload({
    id: pmem.id,
    path_on_host: pmem.pathOnHost,
    root_device: pmem.rootDevice,
    read_only: pmem.readOnly,
    rate_limiter: rateLimiterPayload(pmem.rateLimiter),
  });
}

/** Returns the body of `PATCH /pmem/{id}`. Pure. */
export function pmemPatchPayload(patch: PmemPatch): Payload {
  return payload({ id: patch.id, rate_limiter: rateLimiterPayload(patch.rateLimiter) });
}

/** Checks the rules of one device. That there is at most one root device is a rule of the whole configuration. */
export function checkPmem(problems: Problems, at: string, pmem: Pmem): void {
  problems.id(`${at}.id`, pmem.id);
  if (problems.required(`${at}.pathOnHost`, pmem.pathOnHost))
    problems.path(`${at}.pathOnHost`, pmem.pathOnHost);
  checkRateLimiter(problems, `${at}.rateLimiter`, pmem.rateLimiter);
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putPmem(pmem: Pmem): ApiRequest {
  checked((problems) => checkPmem(problems, "pmem", pmem));
  return apiRequest("PUT", `/pmem/${pmem.id}`, pmemPayload(pmem));
}

/** Returns a request that is sent after the start. @throws HearthError `input.invalid` */
export function patchPmem(patch: PmemPatch): ApiRequest {
  checked((problems) => {
    problems.id("pmem.id", patch.id);
    checkRateLimiter(problems, "pmem.rateLimiter", patch.rateLimiter);
  });
  return apiRequest("PATCH", `/pmem/${patch.id}`, pmemPatchPayload(patch));
}
