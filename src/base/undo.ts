/**
 * Undoes the work of a block if it fails. A failed undo is reported and the rest still runs; it never replaces the
 * first error, which a bare AsyncDisposableStack would do.
 *
 *     await using undo = new Undo(report);
 *     const disk = await makeDisk();
 *     undo.add("disk", () => removeDisk(disk));
 *     ...
 *     undo.keep();
 */
export class Undo implements AsyncDisposable {
  #stack = new AsyncDisposableStack();
  readonly #onFailure: (what: string, error: unknown) => void;

  constructor(onFailure: (what: string, error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  add(what: string, undo: () => unknown): void {
    this.#stack.defer(async () => {
      try {
        await undo();
      } catch (error) {
        this.#onFailure(what, error);
      }
    });
  }

  /** Discards the undo steps: the work is complete. */
  keep(): void {
    this.#stack.move();
    this.#stack = new AsyncDisposableStack();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}
