/**
 * Lets a hearthd die in tests: right after any of its effects on the host, and none of it happens later. The parts of a
 * fake host are `mortal`: they record an effect when it has happened, and refuse a dead hearthd.
 */

/** The error of every call of a dead hearthd. */
export class Dead extends Error {
  constructor() {
    super("This hearthd is dead.");
  }
}

export type When = "before" | "after";

export class Life {
  /** Its effects on the host since `watchEffects`, in order. */
  readonly effects: string[] = [];
  /** Resolves when it is over. */
  readonly over: Promise<void>;
  readonly #end: () => void;
  #isOver = false;
  #isLast: ((effect: string, index: number) => boolean) | undefined;
  #fault: { readonly index: number; readonly when: When } | undefined;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#end = resolve;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Records effects from now on. The first for which `isLast` returns true is the last one. */
  watchEffects(isLast: (effect: string, index: number) => boolean): void {
    this.#isLast = isLast;
  }

  /** Makes the effect of this index, counted since `watchEffects`, fail once: it throws before it happens, or after. */
  failAt(index: number, when: When): void {
    this.#fault = { index, when };
  }

  /** True when the fault of `failAt` has happened. */
  get hasFailed(): boolean {
    return this.#fault === undefined;
  }

  /** Called before an effect. */
  will(effect: string): void {
    if (this.#isLast !== undefined) this.#throwIf(this.effects.length, "before", effect);
  }

  did(effect: string): void {
    this.assertAlive();
    if (this.#isLast === undefined) return;
    this.effects.push(effect);
    if (this.#isLast(effect, this.effects.length - 1)) this.end();
    this.#throwIf(this.effects.length - 1, "after", effect);
  }

  #throwIf(index: number, when: When, effect: string): void {
    if (this.#fault?.index !== index || this.#fault.when !== when) return;
    this.#fault = undefined;
    throw new Error(`injected ${when} ${effect}`);
  }

  /** @throws Dead */
  end(): never {
    this.#isOver = true;
    this.#end();
    throw new Dead();
  }

  assertAlive(): void {
    if (this.#isOver) throw new Dead();
  }

  /** Returns a promise for a caller that waits for a hearthd that dies: it never settles then. */
  async unlessDead<Result>(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (this.#isOver) return new Promise<never>(() => {});
      throw error;
    }
  }
}

/** The calls that are allowed after the death: they release things that only this process has. */
const ALWAYS: ReadonlySet<PropertyKey> = new Set(["close"]);

/** A part of a host that records its effects, and refuses a dead hearthd. */
export function mortal<Part extends object>(
  life: Life,
  name: string,
  part: Part,
  effects: readonly (keyof Part & string)[],
): Part {
  const isEffect: ReadonlySet<PropertyKey> = new Set(effects);
  return new Proxy(part, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]): unknown => {
        if (!ALWAYS.has(key)) life.assertAlive();
        const did = `${name}.${String(key)}`;
        if (isEffect.has(key)) life.will(did);
        const result: unknown = Reflect.apply(value, target, args);
        if (!isEffect.has(key)) return result;
        if (!(result instanceof Promise)) return (life.did(did), result);
        return result.then((answer: unknown) => (life.did(did), answer));
      };
    },
  });
}
