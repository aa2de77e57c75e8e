import { HearthError } from "#base/error.ts";

/** The grammar of durations: `500ms`, `90s`, `2h30m`, `1d`. Units run from large to small, once each. */
const DURATION =
  /^(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6}(?:\.\d{1,3})?)s)?(?:(\d{1,9})ms)?$/;
const UNIT_MS = [86_400_000, 3_600_000, 60_000, 1_000, 1] as const;
const EXAMPLE = "Write a number and a unit, such as 90s, 10m or 2h30m.";

export type DurationRange = { readonly minMs: number; readonly maxMs: number };

/**
 * Returns whole milliseconds within `range`.
 * @throws HearthError `input.invalid` that names `field`, the value, the rule and an example.
 */
export function parseDuration(field: string, text: string, range: DurationRange): number {
  const given = text.trim();
  if (given === "") throw invalid(`${field}: a duration is required`, EXAMPLE);
  if (/^[+-]?\d+(\.\d+)?$/.test(given)) {
    const hint = Number(given) > 0 ? `Add the unit: ${given}s or ${given}m.` : EXAMPLE;
    throw invalid(`${field}: "${given}" has no unit`, hint);
  }
  const match = DURATION.exec(given);
  if (match === null) throw invalid(`${field}: "${given}" is not a duration`, EXAMPLE);
  const ms = Math.round(UNIT_MS.reduce((sum, unit, index) => sum + Number(match[index + 1] ?? 0) * unit, 0));
  if (ms < range.minMs || ms > range.maxMs) {
    const bounds = `Choose from ${formatDuration(range.minMs)} to ${formatDuration(range.maxMs)}.`;
    throw invalid(`${field}: ${given} is out of range`, bounds);
  }
  return ms;
}

/** Returns the exact duration in the grammar of `parseDuration`. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${ms}ms`;
  let rest = ms;
  let text = "";
  for (const [index, unit] of ["d", "h", "m", "s", "ms"].entries()) {
    const unitMs = UNIT_MS[index] ?? 1;
    const count = Math.floor(rest / unitMs);
    if (count > 0) text += `${count}${unit}`;
    rest -= count * unitMs;
  }
  return text;
}

/** Returns a duration for tables: the two largest units at most, such as `3d4h`, `12m`, `8s`. */
export function formatDurationRounded(ms: number): string {
  const floor = ms >= 86_400_000 ? 3_600_000 : ms >= 3_600_000 ? 60_000 : 1_000;
  return ms < 1_000 ? "0s" : formatDuration(Math.floor(ms / floor) * floor);
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError("input.invalid", `${message}.`, { hint });
}
