import { parseDuration } from "#base/durations.ts";

export const STOP_TIME = {
  value: "TIME",
  help: "How long the guest may take, such as 10s; then the VMM is ended",
} as const;

const RANGE = { minMs: 0, maxMs: 3_600_000 };

/** Milliseconds; undefined leaves the choice to hearthd. */
export function parseStopTime(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseDuration("time", text, RANGE);
}
