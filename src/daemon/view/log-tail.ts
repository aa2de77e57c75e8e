import { withoutControls } from "#base/printable.ts";
import { readTail } from "#host/bounded-file.ts";

/** Enough for the last lines that a user wants to see. */
const TAIL_BYTES = 64 * 1024;
/** Lines to search for a panic: its registers, and the stacks of what failed before it, follow or precede it. */
const PANIC_WITHIN_LINES = 100;
const PANIC_MAX_CHARS = 200;

/** Returns the last lines of a log that a guest wrote, without what could move a terminal's cursor. */
export function lastLines(path: string, lines: number): string[] {
  const all = readTail(path, TAIL_BYTES)
    .split("\n")
    .map((line) => withoutControls(line).trimEnd());
  return all.filter((line) => line !== "").slice(-lines);
}

/**
 * Returns the lines of a guest's console that explain its end: those around a kernel panic, which many lines of its
 * stack follow, or else the last lines.
 */
export function consoleEnd(path: string, lines: number): string[] {
  const tail = lastLines(path, PANIC_WITHIN_LINES);
  const panic = tail.findLastIndex((line) => line.includes("Kernel panic"));
  if (panic < 0 || tail.length <= lines) return tail.slice(-lines);
  const start = Math.max(0, panic - Math.ceil(lines / 2));
  return tail.slice(start, start + lines);
}

/** Returns the kernel's last panic message, such as `Kernel panic - not syncing: Attempted to kill init!`. */
export function panicLine(path: string): string | undefined {
  const line = lastLines(path, PANIC_WITHIN_LINES).findLast((one) => one.includes("Kernel panic"));
  return line?.slice(line.indexOf("Kernel panic"), line.indexOf("Kernel panic") + PANIC_MAX_CHARS);
}
