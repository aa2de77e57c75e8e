/**
 * Keeps Firecracker's log in `vmm.log`. A guest can make it log as fast as it likes, for instance with broken
 * descriptors, so there is one write for each chunk and not for each line, and lines above a rate are only counted:
 *
 *   chunk ─▶ tokens left: its lines, filtered, in one write
 *         └▶ none left: only counted, until a second has passed; then one line with the count, and the last lines
 *
 * The last lines are always kept: they say how Firecracker ended.
 */
import { appendFileSync } from "node:fs";
import { TokenBucket } from "#base/token-bucket.ts";
import { truncateWhenOver } from "#host/bounded-file.ts";

export type VmmLogOptions = {
  readonly maxBytes: number;
  /** Called when the file cannot be written, as on a full disk; once until it can be written again. */
  readonly onTrouble: (path: string, error: unknown) => void;
};

/** A Firecracker that boots and ends writes some twenty lines. */
const LINES_PER_S = 100;
const LINES_BURST = 1_000;
const SUMMARY_MS = 1_000;
/** The most that is kept of lines that are left out, and of an unfinished line. */
const TAIL_MAX_CHARS = 4 * 1024;
const NEWLINE = 10;

/** Lines about each API request and answer; most are those of heartbeats. */
const OF_OURS = /:fc_api:INFO\] The (API server received|request was executed successfully)/;
/** Lines about a rate limit that delays a large request: Firecracker logs them as errors, and they are none. */
const OF_A_LIMIT = /Consumed \d+ tokens from bucket of size \d+/;

/** Appends chunks of the log to the file, at a limited rate. Does not throw: failed writes go to `onTrouble`. */
export class VmmLog {
  readonly #path: string;
  readonly #options: VmmLogOptions;
  readonly #bucket = new TokenBucket({ perS: LINES_PER_S, burst: LINES_BURST });
  /** An unfinished line; while lines are left out, the end of what was left out. */
  #tail = "";
  #leftOutCount = 0;
  #summary: NodeJS.Timeout | undefined;
  #troubled = false;

  constructor(path: string, options: VmmLogOptions) {
    this.#path = path;
    this.#options = options;
  }

  append(chunk: Buffer): void {
    if (this.#summary === undefined) this.#keep(chunk.toString("utf8"));
    else this.#leaveOut(chunk);
  }

  /** Writes what is pending. Idempotent. */
  end(): void {
    this.#summarize();
  }

  #keep(text: string): void {
    const lines = (this.#tail + text).split("\n");
    this.#tail = (lines.pop() ?? "").slice(-TAIL_MAX_CHARS);
    const telling = lines.filter(isTelling);
    const kept = telling.filter(() => this.#bucket.take());
    this.#write(kept);
    if (kept.length === telling.length) return;
    this.#leftOutCount = telling.length - kept.length;
    this.#tail = `${telling.at(-1)}\n${this.#tail}`;
    this.#summary = setTimeout(() => this.#summarize(), SUMMARY_MS).unref();
  }

  #leaveOut(chunk: Buffer): void {
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, at + 1))
      this.#leftOutCount += 1;
    const end = chunk.toString("utf8", Math.max(0, chunk.length - TAIL_MAX_CHARS));
    this.#tail = (this.#tail + end).slice(-TAIL_MAX_CHARS);
  }

  #summarize(): void {
    if (this.#summary === undefined) return;
    clearTimeout(this.#summary);
    this.#summary = undefined;
    const lines = this.#tail.split("\n");
    this.#tail = lines.pop() ?? "";
    const last = lines.filter(isTelling);
    const count = Math.max(0, this.#leftOutCount - last.length);
    this.#leftOutCount = 0;
    this.#write([`[hearth: about ${count} lines of the VMM log were left out here]`, ...last]);
  }

  #write(lines: readonly string[]): void {
    if (lines.length === 0) return;
    try {
      appendFileSync(this.#path, `${lines.join("\n")}\n`, { mode: 0o600 });
      truncateWhenOver(this.#path, this.#options.maxBytes);
      this.#troubled = false;
    } catch (error) {
      if (!this.#troubled) this.#options.onTrouble(this.#path, error); // The VM runs all the same.
      this.#troubled = true;
    }
  }
}

function isTelling(line: string): boolean {
  return line !== "" && !OF_OURS.test(line) && !OF_A_LIMIT.test(line);
}
