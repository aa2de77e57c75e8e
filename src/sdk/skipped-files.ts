import { HearthError } from "#base/error.ts";
import { shownPath } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";

/** Called with the name and reason of each file that a copy skips, as text that is safe on a terminal. */
export type OnSkip = (what: string) => void;

/** The most files that `onSkip` is called for. A guest may claim any number, and all of them are counted. */
const TOLD_MAX = 100;

/** Collects the files that a copy skips. */
export class SkippedFiles {
  readonly #onSkip: OnSkip | undefined;
  #count = 0;
  #first = "";

  constructor(onSkip: OnSkip | undefined) {
    this.#onSkip = onSkip;
  }

  add(path: BytePath, reason: string): void {
    this.addText(`${shownPath(path)}: ${reason}`);
  }

  /** Records a skipped file. @param what its name and the reason, without control characters. */
  addText(what: string): void {
    this.#count++;
    if (this.#count === 1) this.#first = what;
    if (this.#count <= TOLD_MAX) this.#onSkip?.(what);
  }

  /** Throws `file.skipped` if anything was skipped: an incomplete copy must not look complete. */
  throwIfAny(): void {
    if (this.#count === 0) return;
    const more = this.#count === 1 ? "" : `, and ${this.#count - 1} more`;
    throw new HearthError("file.skipped", `Some files were not copied: ${this.#first}${more}.`, {
      hint: "All other files were copied. Copy them one by one, or use a tar stream: -",
    });
  }
}
