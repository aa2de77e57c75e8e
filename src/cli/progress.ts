import { formatSizeRounded } from "#base/sizes.ts";
import type { Progress } from "#base/progress.ts";
import type { TerminalOut } from "#cli/io.ts";
import { printable } from "#base/printable.ts";

/** The shortest time between two updates, so that a slow terminal, such as a serial console, is not flooded. */
const REDRAW_MS = 100;
const BAR_CELLS = 20;
const PLAIN_BYTES_STEP = 0.25;

/** Shows progress on stderr: one changing line on a terminal, a line for each stage elsewhere. */
export class ProgressView {
  readonly #stream: TerminalOut;
  readonly #inPlace: boolean;
  #latest: Progress | undefined;
  #drawnText = "";
  #drawnMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #plainText = "";
  #plainShare = 0;

  constructor(stream: TerminalOut, inPlace: boolean) {
    this.#stream = stream;
    this.#inPlace = inPlace;
  }

  readonly show = (progress: Progress): void => {
    if (!this.#inPlace) return this.#plain(progress);
    this.#latest = progress;
    const waitMs = this.#drawnMs + REDRAW_MS - performance.now();
    if (waitMs <= 0) this.#draw();
    else this.#timer ??= setTimeout(() => this.#draw(), waitMs).unref();
  };

  /** Removes the progress line. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#latest = undefined;
    if (this.#drawnText !== "") this.#stream.write("\r\u001b[K");
    this.#drawnText = "";
  }

  #draw(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#latest === undefined) return;
    const width = (this.#stream.columns ?? 80) - 1;
    const text = Array.from(describe(this.#latest, true)).slice(0, width).join("");
    this.#drawnMs = performance.now();
    if (text === this.#drawnText) return;
    this.#drawnText = text;
    this.#stream.write(`\r${text}\u001b[K`);
  }

  #plain(progress: Progress): void {
    const { doneBytes, totalBytes } = progress;
    const share = doneBytes !== undefined && totalBytes ? doneBytes / totalBytes : 0;
    const text = `${progress.stage}: ${progress.text}`;
    const further = share >= this.#plainShare + PLAIN_BYTES_STEP;
    if (text === this.#plainText && !further) return;
    this.#plainText = text;
    this.#plainShare = share;
    this.#stream.write(`${describe(progress, false)}\n`);
  }
}

function describe({ stage, text, doneBytes, totalBytes }: Progress, bar: boolean): string {
  const label = printable(`${stage}: ${text}`);
  if (doneBytes === undefined) return label;
  const done = formatSizeRounded(doneBytes);
  if (!totalBytes) return `${label}  ${done}`;
  const share = Math.min(1, doneBytes / totalBytes);
  const cells = Math.round(share * BAR_CELLS);
  const drawn = bar ? `[${"#".repeat(cells)}${"-".repeat(BAR_CELLS - cells)}] ` : "";
  return `${label}  ${drawn}${Math.round(share * 100)}% of ${formatSizeRounded(totalBytes)}`;
}
