import { Transform } from "node:stream";
import type { TransformCallback } from "node:stream";
import { HearthError } from "#base/error.ts";
import type { Flags } from "#cli/command.ts";

/** Docker's keys. */
const DEFAULT_KEYS = "ctrl-p,ctrl-q";
const KEYS_MAX = 16;

export const DETACH_FLAG = {
  detachKeys: {
    value: "KEYS",
    default: DEFAULT_KEYS,
    help: "Keys that hang up the command and detach from it, or none",
  },
} as const satisfies Flags;

/**
 * Parses keys such as `ctrl-p,ctrl-q`: each is one character or `ctrl-` and a letter, `@`, `[`, `\`, `]`, `^` or `_`.
 * @returns their bytes; empty for `none`
 * @throws HearthError `input.invalid`
 */
export function parseDetachKeys(text: string = DEFAULT_KEYS): Buffer {
  if (text === "none") return Buffer.alloc(0);
  const keys = text.split(",").map(keyByte);
  const bytes = keys.filter((byte) => byte !== undefined);
  if (bytes.length === keys.length && bytes.length <= KEYS_MAX) return Buffer.from(bytes);
  throw new HearthError(
    "input.invalid",
    `detach-keys: ${JSON.stringify(text.slice(0, 80))} is not a sequence of keys.`,
    {
      hint: `Write keys such as ${DEFAULT_KEYS} or ctrl-\\,q, with ${KEYS_MAX} at most, or none.`,
    },
  );
}

function keyByte(key: string): number | undefined {
  if (/^[\x21-\x7e]$/.test(key)) return key.charCodeAt(0);
  const letter = /^ctrl-([a-z@[\\\]^_])$/.exec(key)?.[1];
  // Control characters are the five low bits of their letters.
  return letter === undefined ? undefined : letter.toUpperCase().charCodeAt(0) & 0x1f;
}

/**
 * Passes input on and ends at the sequence of keys, of which it passes on no part. Keys that may begin the sequence are
 * kept back until the next key decides.
 */
export class DetachKeys extends Transform {
  readonly #keys: Buffer;
  readonly #detached = Promise.withResolvers<void>();
  #held: number[] = [];
  #isOver = false;

  constructor(keys: Buffer) {
    super();
    this.#keys = keys;
  }

  /** Resolves when the sequence was typed. */
  get detached(): Promise<void> {
    return this.#detached.promise;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const passed: number[] = [];
    for (const byte of chunk) {
      if (this.#isOver) break;
      this.#held.push(byte);
      while (!this.#isBegun()) passed.push(this.#held.shift() ?? 0);
      if (this.#held.length > 0 && this.#held.length === this.#keys.length) this.#isOver = true;
    }
    done(null, Buffer.from(passed));
    if (this.#isOver) this.#detached.resolve();
  }

  override _flush(done: TransformCallback): void {
    done(null, Buffer.from(this.#isOver ? [] : this.#held));
  }

  /** Tells whether the keys that are kept back begin the sequence. None do, too. */
  #isBegun(): boolean {
    return this.#held.every((byte, index) => byte === this.#keys[index]);
  }
}
