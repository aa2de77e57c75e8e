/**
 * The arithmetic of paired measurements. Both sides are measured in turn, A B A B, so that whatever else the
 * machine does meanwhile falls on both; what counts is the ratio within a pair.
 */

/** Both sides of one measurement, pair by pair: `ours[i]` was measured next to `other[i]`. */
export type Pairs = { readonly ours: readonly number[]; readonly other: readonly number[] };

/** Measures one side once. The unit is the caller's. */
export type Measure = () => Promise<number>;

/** Every other pair begins with the other side, so that neither always finds what its neighbour left. */
export async function interleave(count: number, ours: Measure, other: Measure): Promise<Pairs> {
  const pairs: { ours: number[]; other: number[] } = { ours: [], other: [] };
  for (let pair = 0; pair < count; pair++) {
    const sides = [
      async () => void pairs.ours.push(await ours()),
      async () => void pairs.other.push(await other()),
    ];
    for (const side of pair % 2 === 0 ? sides : sides.toReversed()) await side();
  }
  return pairs;
}

/** `ours` by `other`, for each pair. */
export function ratiosOf({ ours, other }: Pairs): number[] {
  return ours.map((value, at) => value / (other[at] ?? Number.NaN));
}

/** The middle value; between the two in the middle when their number is even. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** The smallest value that at least `share` (0 to 1) of all values do not exceed. NaN for none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}
