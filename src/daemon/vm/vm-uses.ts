import type { VmId } from "#model/ids.ts";

/** Counts the uses of each VM that last longer than a call: hearthd suspends no VM that is in use. */
export class VmUses {
  readonly #counts = new Map<VmId, number>();
  readonly #over: (id: VmId) => void;

  /** @param over is called at the end of each use */
  constructor(over: (id: VmId) => void) {
    this.#over = over;
  }

  has(id: VmId): boolean {
    return this.#counts.has(id);
  }

  /** Counts a use until the result is disposed of. */
  begin(id: VmId): Disposable {
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        const left = (this.#counts.get(id) ?? 1) - 1;
        if (left === 0) this.#counts.delete(id);
        else this.#counts.set(id, left);
        this.#over(id);
      },
    };
  }
}
