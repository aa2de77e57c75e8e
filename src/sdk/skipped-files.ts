import { HearthError } from "#base/error.ts";
import { shownPath } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";

/** Gets each file that a copy leaves out, as text that a terminal may show. */
export type OnSkip = (what: string) => void;

/** A guest may claim any number of them; all are counted. */
const TOLD_MAX = 100;

/** Collects what one copy leaves out, while it goes on with the rest. */
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

  /** @param what the name and the reason, without control characters */
  addText(what: string): void {
    this.#count++;
    if (this.#count === 1) this.#first = what;
    if (this.#count <= TOLD_MAX) this.#onSkip?.(what);
  }

  /** Fails when something was left out: a copy that is not whole must not look like one that is. */
  throwIfAny(): void {
    if (this.#count === 0) return;
    const more = this.#count === 1 ? "" : `, and ${this.#count - 1} more`;
    throw new HearthError("file.skipped", `Not everything was copied: ${this.#first}${more}.`, {
      hint: "All else was copied. Copy a part of it, or pipe a tar stream: -",
    });
  }
}
