import { formatDuration, parseDuration } from "#base/durations.ts";
import { DEFAULTS } from "#model/defaults.ts";

export const STOP_TIME = {
  value: "TIME",
  default: formatDuration(DEFAULTS.stopTimeoutMs),
  help: "Time for the guest to shut down; then its VMM is killed",
} as const;

const RANGE = { minMs: 0, maxMs: 3_600_000 };

/** Parses a time to milliseconds. Undefined leaves the choice to hearthd. */
export function parseStopTime(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseDuration("time", text, RANGE);
}
