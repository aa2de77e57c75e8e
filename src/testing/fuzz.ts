import type { TestContext } from "node:test";

/** Values that code which expects something else tends to trip over. */
const ODD: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  2 ** 53,
  "",
  "web",
  "\0",
  "__proto__",
  [],
  {},
  { toString: null },
  { length: -1 },
];

/** A source of hostile input that gives the same for the same seed. HEARTH_FUZZ_SEED sets it. */
export class Fuzz {
  #state: number;

  constructor(t: TestContext, seed = Number(process.env["HEARTH_FUZZ_SEED"] ?? 20_261_127)) {
    t.diagnostic(`HEARTH_FUZZ_SEED=${seed}`);
    this.#state = seed >>> 0;
  }

  /** From 0 up to, and without, `end`. The generator is mulberry32. */
  int(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
  }

  /** True once in so many times. */
  oneIn(times: number): boolean {
    return this.int(times) === 0;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.int(items.length)] as Item;
  }

  bytes(maxLength: number): Buffer {
    return Buffer.from(Array.from({ length: this.int(maxLength + 1) }, () => this.int(256)));
  }

  /** A value as JSON may hold it, with these keys among its objects'. */
  value(keys: readonly string[], depth = 3): unknown {
    if (depth === 0 || this.oneIn(2)) return this.pick(ODD);
    if (this.oneIn(4)) return Array.from({ length: this.int(3) }, () => this.value(keys, depth - 1));
    const entries = Array.from({ length: this.int(4) }, () => [this.pick(keys), this.value(keys, depth - 1)]);
    return Object.fromEntries(entries) as unknown;
  }

  /** Returns the bytes with some of them changed, left out or doubled. */
  mutated(input: Buffer): Buffer {
    let bytes = Buffer.from(input);
    for (let times = this.int(4); times > 0 && bytes.length > 0; times--) {
      const at = this.int(bytes.length);
      const end = at + this.int(Math.min(16, bytes.length - at) + 1);
      if (this.oneIn(3)) bytes[at] = this.int(256);
      else if (this.oneIn(2)) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
      else bytes = Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
    }
    return bytes;
  }
}
