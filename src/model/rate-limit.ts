import { HearthError } from "#base/error.ts";
import { formatSize, parseSize } from "#base/sizes.ts";
import { LIMITS } from "#model/limits.ts";

/**
 * Token buckets: a steady rate per second. An undefined rate is not limited. A burst is the amount that may pass at
 * once after a rest, at least one second's worth; undefined leaves it to the VMM, which keeps it small.
 */
export type RateLimit = {
  readonly bandwidthBytesPerS?: number | undefined;
  readonly bandwidthBurstBytes?: number | undefined;
  readonly opsPerS?: number | undefined;
  readonly opsBurst?: number | undefined;
};

const EXAMPLE = "Write, for instance, bw=10M/s,ops=500/s, or none.";
const BANDWIDTH = { minBytes: LIMITS.bandwidthMinBytesPerS, maxBytes: LIMITS.bandwidthMaxBytesPerS };

/**
 * Parses `bw=10M/s,burst=40M,ops=500/s,burst=1000`: a burst belongs to the rate before it. Returns undefined for
 * `none`.
 * @throws HearthError `input.invalid` that names `field`
 */
export function parseRateLimit(field: string, text: string): RateLimit | undefined {
  if (text.trim() === "none") return undefined;
  const limit: { -readonly [Part in keyof RateLimit]: RateLimit[Part] } = {};
  let before: "bw" | "ops" | undefined;
  for (const part of text.split(",")) {
    const [key = "", value = "", ...more] = part.trim().split("=");
    if (value === "" || more.length > 0) throw invalid(field, `${quote(part)} is not a rate`);
    if (key === "bw" && limit.bandwidthBytesPerS === undefined) {
      limit.bandwidthBytesPerS = parseSize(field, perSecond(field, value), BANDWIDTH);
      before = "bw";
    } else if (key === "ops" && limit.opsPerS === undefined) {
      limit.opsPerS = parseOps(field, perSecond(field, value));
      before = "ops";
    } else if (key === "burst" && before === "bw") {
      limit.bandwidthBurstBytes = parseSize(field, value, BANDWIDTH);
      before = undefined;
    } else if (key === "burst" && before === "ops") {
      limit.opsBurst = parseOps(field, value);
      before = undefined;
    } else throw invalid(field, `${quote(part)} is not allowed here`);
  }
  checkRateLimit(field, limit);
  return limit;
}

/**
 * Checks the rules between the parts.
 * @throws HearthError `input.invalid`
 */
export function checkRateLimit(field: string, limit: RateLimit): void {
  const { bandwidthBytesPerS, bandwidthBurstBytes, opsPerS, opsBurst } = limit;
  if (bandwidthBytesPerS === undefined && opsPerS === undefined) throw invalid(field, "no rate is given");
  const pairs = [
    [bandwidthBurstBytes, bandwidthBytesPerS],
    [opsBurst, opsPerS],
  ] as const;
  for (const [burst, rate] of pairs) {
    if (burst === undefined) continue;
    if (rate === undefined) throw invalid(field, "a burst needs a rate");
    if (burst < rate) throw invalid(field, "a burst must be at least as large as its rate per second");
  }
}

/** Formats a limit as `parseRateLimit` reads it. */
export function formatRateLimit(limit: RateLimit | undefined): string {
  if (limit === undefined) return "none";
  const { bandwidthBytesPerS, bandwidthBurstBytes, opsPerS, opsBurst } = limit;
  return [
    bandwidthBytesPerS === undefined ? [] : [`bw=${formatSize(bandwidthBytesPerS)}/s`],
    bandwidthBurstBytes === undefined ? [] : [`burst=${formatSize(bandwidthBurstBytes)}`],
    opsPerS === undefined ? [] : [`ops=${opsPerS}/s`],
    opsBurst === undefined ? [] : [`burst=${opsBurst}`],
  ]
    .flat()
    .join(",");
}

function perSecond(field: string, text: string): string {
  if (text.endsWith("/s")) return text.slice(0, -2);
  throw invalid(field, `${quote(text)} does not end in /s`);
}

function parseOps(field: string, text: string): number {
  const ops = Number(text);
  if (/^\d{1,9}$/.test(text) && ops >= LIMITS.opsMinPerS && ops <= LIMITS.opsMaxPerS) return ops;
  throw new HearthError("input.invalid", `${field}: ${quote(text)} is not a number of operations.`, {
    hint: `Write a whole number from ${LIMITS.opsMinPerS} to ${LIMITS.opsMaxPerS}.`,
  });
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 80));
}

function invalid(field: string, problem: string): HearthError {
  return new HearthError("input.invalid", `${field}: ${problem}.`, { hint: EXAMPLE });
}
