import { open } from "node:fs/promises";
import { withoutControls } from "#base/printable.ts";

/** Enough for the last lines that a person wants to see. */
const TAIL_BYTES = 64 * 1024;
/** A panic's registers, and the stacks of what failed before it. */
const PANIC_WITHIN_LINES = 100;

/** The last lines of a log that a guest wrote, without what could move a terminal's cursor. */
export async function readTail(path: string, lines: number): Promise<string[]> {
  let file;
  try {
    file = await open(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
  await using handle = file;
  const { size } = await handle.stat();
  const start = Math.max(0, size - TAIL_BYTES);
  const { buffer, bytesRead } = await handle.read(
    Buffer.alloc(Math.min(size, TAIL_BYTES)),
    0,
    undefined,
    start,
  );
  const text = buffer.subarray(0, bytesRead).toString("utf8");
  const all = text.split("\n").map((line) => withoutControls(line).trimEnd());
  return all.filter((line) => line !== "").slice(-lines);
}

/**
 * What a guest's console says of its end: where the kernel panicked, because many lines of its stack follow, or else
 * the last lines.
 */
export async function consoleEnd(path: string, lines: number): Promise<string[]> {
  const tail = await readTail(path, PANIC_WITHIN_LINES);
  const panic = tail.findLastIndex((line) => line.includes("Kernel panic"));
  if (panic < 0 || tail.length <= lines) return tail.slice(-lines);
  const start = Math.max(0, panic - Math.ceil(lines / 2));
  return tail.slice(start, start + lines);
}
