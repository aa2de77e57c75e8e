import { HearthError } from "#base/error.ts";

/**
 * The grammar of sizes: a number, with a fraction if wanted, and a unit. `512M`, `8G`, `1.5GiB`. K, M, G, T are powers
 * of 1024, with or without `iB` or `B`, in upper or lower case; `B` alone is bytes, as whole numbers.
 */
const SIZE = /^(?:(\d{1,15}(?:\.\d{1,6})?)\s?([kmgt])(?:i?b)?|(\d{1,15})\s?b)$/i;
const UNITS = ["K", "M", "G", "T"] as const;
const EXAMPLE = "Write a number and a unit, such as 512M, 8G or 1.5GiB.";

export const MIB = 1024 ** 2;
export const GIB = 1024 ** 3;

export type SizeRange = { readonly minBytes: number; readonly maxBytes: number };

/**
 * Returns whole bytes within `range`.
 * @throws HearthError `input.invalid` that names `field`, the value, the rule and an example.
 */
export function parseSize(field: string, text: string, range: SizeRange): number {
  const given = text.trim();
  if (given === "") throw invalid(`${field}: a size is required`, EXAMPLE);
  if (/^[+-]?\d+(\.\d+)?$/.test(given)) {
    const hint = Number(given) > 0 ? `Add the unit: ${given}M or ${given}G.` : EXAMPLE;
    throw invalid(`${field}: "${given}" has no unit`, hint);
  }
  const match = SIZE.exec(given);
  if (match === null) throw invalid(`${field}: "${given}" is not a size`, EXAMPLE);
  // For plain bytes the exponent is 0.
  const exponent = UNITS.indexOf((match[2] ?? "").toUpperCase() as "K") + 1;
  const bytes = Number(match[1] ?? match[3]) * 1024 ** exponent;
  const { minBytes, maxBytes } = range;
  if (bytes < minBytes || bytes > maxBytes) {
    throw invalid(
      `${field}: ${given} is out of range`,
      `Choose from ${formatSize(minBytes)} to ${formatSize(maxBytes)}.`,
    );
  }
  return Math.round(bytes);
}

/** Returns the exact size in the largest unit, so that printed sizes can be typed again. */
export function formatSize(bytes: number): string {
  for (const [index, unit] of [...UNITS.entries()].toReversed()) {
    const inUnit = bytes / 1024 ** (index + 1);
    if (inUnit >= 1 && Number.isInteger(inUnit)) return `${inUnit}${unit}`;
  }
  return `${bytes}B`;
}

/**
 * Returns a size for people: at most three digits, such as `178M` or `1.4G`. It is rounded, so it is not for typing
 * again.
 */
export function formatSizeRounded(bytes: number): string {
  let value = bytes;
  let unit = "B";
  for (const next of UNITS) {
    if (value < 1000) break;
    value /= 1024;
    unit = next;
  }
  const digits = value < 10 && unit !== "B" ? 1 : 0;
  return `${value.toFixed(digits)}${unit}`;
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError("input.invalid", `${message}.`, { hint });
}
