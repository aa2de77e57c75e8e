import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";

/** Sizes and intervals are u32 and u16 in Firecracker. */
const AMOUNT_MAX_MIB = 0xffff_ffff;
const INTERVAL_MAX_S = 0xffff;

export type Balloon = {
  /** The memory that the guest is asked to give back. */
  readonly amountMib: number;
  /** True when the balloon deflates in a guest that is out of memory. */
  readonly deflateOnOom: boolean;
  /** The interval of statistics. 0, the default, disables them; they cannot be enabled later. */
  readonly statsPollingIntervalS?: number | undefined;
  /** Since 1.14. */
  readonly freePageHinting?: boolean | undefined;
  /** Since 1.14; a developer preview there. */
  readonly freePageReporting?: boolean | undefined;
};

/** The target, which can be set before and after the start. */
export type BalloonPatch = Pick<Balloon, "amountMib">;
export type BalloonStatisticsPatch = { readonly statsPollingIntervalS: number };
/** True when Firecracker ends the run itself as soon as the guest is done. */
export type BalloonHintingStart = { readonly acknowledgeOnStop?: boolean | undefined };

/**
 * Statistics of the guest's kernel; sizes are bytes unless the name has another unit. Kernels before 6.12 report fewer.
 */
export type BalloonStatistics = {
  readonly targetPages: number;
  readonly actualPages: number;
  readonly targetMib: number;
  readonly actualMib: number;
  readonly swapIn?: number | undefined;
  readonly swapOut?: number | undefined;
  readonly majorFaults?: number | undefined;
  readonly minorFaults?: number | undefined;
  readonly freeMemory?: number | undefined;
  readonly totalMemory?: number | undefined;
  readonly availableMemory?: number | undefined;
  readonly diskCaches?: number | undefined;
  readonly hugetlbAllocations?: number | undefined;
  readonly hugetlbFailures?: number | undefined;
  readonly oomKill?: number | undefined;
  readonly allocStall?: number | undefined;
  readonly asyncScan?: number | undefined;
  readonly directScan?: number | undefined;
  readonly asyncReclaim?: number | undefined;
  readonly directReclaim?: number | undefined;
};

/** The numbers of the last commands, as in the virtio standard. */
export type BalloonHintingStatus = { readonly hostCmd: number; readonly guestCmd?: number | undefined };

/** Returns the body of `PUT /balloon`. Pure. */
export function balloonPayload(balloon: Balloon): Payload {
  return payload({
    amount_mib: balloon.amountMib,
    deflate_on_oom: balloon.deflateOnOom,
    stats_polling_interval_s: balloon.statsPollingIntervalS,
    free_page_hinting: balloon.freePageHinting,
    free_page_reporting: balloon.freePageReporting,
  });
}

/** Checks the rules of the device. That it is smaller than the memory is a rule of the whole configuration. */
export function checkBalloon(problems: Problems, at: string, balloon: Balloon): void {
  if (problems.required(`${at}.amountMib`, balloon.amountMib))
    problems.integer(`${at}.amountMib`, balloon.amountMib, 0, AMOUNT_MAX_MIB);
  problems.required(`${at}.deflateOnOom`, balloon.deflateOnOom);
  problems.integer(`${at}.statsPollingIntervalS`, balloon.statsPollingIntervalS, 0, INTERVAL_MAX_S);
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putBalloon(balloon: Balloon): ApiRequest {
  checked((problems) => checkBalloon(problems, "balloon", balloon));
  return apiRequest("PUT", "/balloon", balloonPayload(balloon));
}

/** @throws HearthError `input.invalid` */
export function patchBalloon({ amountMib }: BalloonPatch): ApiRequest {
  checked((problems) => {
    if (problems.required("balloon.amountMib", amountMib))
      problems.integer("balloon.amountMib", amountMib, 0, AMOUNT_MAX_MIB);
  });
  return apiRequest("PATCH", "/balloon", payload({ amount_mib: amountMib }));
}

/** @throws HearthError `input.invalid` */
export function patchBalloonStatistics({ statsPollingIntervalS }: BalloonStatisticsPatch): ApiRequest {
  checked((problems) => {
    const field = "balloon.statsPollingIntervalS";
    if (problems.required(field, statsPollingIntervalS))
      problems.integer(field, statsPollingIntervalS, 0, INTERVAL_MAX_S);
  });
  const body = payload({ stats_polling_interval_s: statsPollingIntervalS });
  return apiRequest("PATCH", "/balloon/statistics", body);
}

/** Returns a request with a body, even an empty one: some versions refuse a PATCH without one. */
export function startBalloonHinting({ acknowledgeOnStop }: BalloonHintingStart): ApiRequest {
  const body = payload({ acknowledge_on_stop: acknowledgeOnStop });
  return apiRequest("PATCH", "/balloon/hinting/start", body);
}
