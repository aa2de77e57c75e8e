/** Describes one measurement as a line of the table, with whether it keeps its bound. */
import { median, quantile, ratiosOf } from "./pairs.ts";

export type Line = {
  readonly what: string;
  readonly unit: "ms" | "MB/s" | "MiB" | "%";
  readonly ours: readonly number[];
  /** The measurements that `ours` is compared with, pair by pair. Without it, the bound is one of `ours` itself. */
  readonly other?: readonly number[] | undefined;
  readonly bound: { readonly atMost: number } | { readonly atLeast: number };
};

export type Verdict = {
  /** The median of the ratios; of `ours` where there is nothing to compare with. */
  readonly median: number;
  /** Nine of ten are at least as good as this. */
  readonly p90: number;
  readonly ok: boolean;
};

/** The median decides. */
export function assess({ ours, other, bound }: Line): Verdict {
  const values = other === undefined ? ours : ratiosOf({ ours, other });
  const middle = median(values);
  return "atMost" in bound
    ? { median: middle, p90: quantile(values, 0.9), ok: middle <= bound.atMost }
    : { median: middle, p90: quantile(values, 0.1), ok: middle >= bound.atLeast };
}

const WHAT_CHARS = 30;

export const TABLE_HEAD = tableRow(["what", "ours", "other", "ratio", "p90", "bound", ""]);

/** Renders a measurement in at most 80 columns. */
export function describeLine(line: Line): string {
  const { what, unit, ours, other, bound } = line;
  const verdict = assess(line);
  const compared = other !== undefined;
  const sign = "atMost" in bound ? "<=" : ">=";
  const limit = "atMost" in bound ? bound.atMost : bound.atLeast;
  return tableRow([
    what,
    `${short(median(ours))} ${unit}`,
    compared ? `${short(median(other))} ${unit}` : "",
    compared ? verdict.median.toFixed(2) : "",
    compared ? verdict.p90.toFixed(2) : short(verdict.p90),
    `${sign} ${compared ? limit.toFixed(2) : `${limit} ${unit}`}`,
    verdict.ok ? "ok" : "MISS",
  ]);
}

function tableRow([
  what = "",
  ours = "",
  other = "",
  ratio = "",
  p90 = "",
  bound = "",
  ok = "",
]: string[]): string {
  const cells = [
    ours.padStart(10),
    other.padStart(10),
    ratio.padStart(6),
    p90.padStart(6),
    bound.padStart(11),
  ];
  return `${what.slice(0, WHAT_CHARS).padEnd(WHAT_CHARS)}${cells.join("")} ${ok}`.trimEnd();
}

/** Three figures say all that a measurement knows. */
function short(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
