/**
 * The modes that a program in a guest sets and unsets itself, unless it is killed or detached from (DECSET, `CSI ? n
 * h`).
 */
const MODES = [
  // The alternate screen.
  "47",
  "1047",
  "1049",
  // Keys and the mouse, which would type into the user's own shell.
  "1",
  "1000",
  "1002",
  "1003",
  "1005",
  "1006",
  "1015",
  "1004",
  "2004",
] as const;
/** Shown by default, and hidden by unsetting this mode. */
const CURSOR = "25";

// eslint-disable-next-line no-control-regex -- sequences of a terminal are what is looked for
const CHANGE = /\u001b\[\?([0-9;]{1,64})([hl])/g;
/** The longest part of a sequence that is kept until the next chunk. */
const SEQUENCE_MAX_CHARS = 80;

/** Tracks the modes of the terminal that a command has changed, to reset them when it is detached from. */
export class TerminalModes {
  readonly #changed = new Set<string>();
  #tail = "";

  /** Scans a chunk of the terminal's output. */
  see(chunk: Buffer): void {
    const text = this.#tail + chunk.toString("latin1");
    let end = 0;
    for (const match of text.matchAll(CHANGE)) {
      end = match.index + match[0].length;
      for (const mode of (match[1] ?? "").split(";")) this.#note(mode, match[2] === "h");
    }
    this.#tail = text.slice(Math.max(end, text.length - SEQUENCE_MAX_CHARS));
  }

  /** Returns the sequences that reset the changed modes; empty if there are none. */
  reset(): string {
    if (this.#changed.size === 0) return "";
    const modes = [...this.#changed].map((mode) => `\u001b[?${mode}${mode === CURSOR ? "h" : "l"}`);
    return `${modes.join("")}\u001b[0m`;
  }

  #note(mode: string, isSet: boolean): void {
    const isKnown = mode === CURSOR || MODES.some((known) => known === mode);
    if (!isKnown) return;
    if (isSet === (mode !== CURSOR)) this.#changed.add(mode);
    else this.#changed.delete(mode);
  }
}
