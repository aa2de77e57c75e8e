/**
 * Finds the agent's answer in what comes out of the channel. A virtio-serial port keeps the bytes that an
 * earlier connection did not read, in any amount, so everything before our own nonce is thrown away.
 */
export class AnswerScanner {
  readonly #answer: Buffer;
  /** The last bytes seen, always fewer than the answer has: memory stays bounded whatever comes. */
  #tail: Buffer = Buffer.alloc(0);

  constructor(nonce: string) {
    this.#answer = Buffer.from(answerLine(nonce), "latin1");
  }

  /** What follows the answer once it has come; undefined until then. */
  push(chunk: Uint8Array): Buffer | undefined {
    const seen = Buffer.concat([this.#tail, chunk]);
    const at = seen.indexOf(this.#answer);
    if (at !== -1) return seen.subarray(at + this.#answer.length);
    const keep = Math.min(seen.length, this.#answer.length - 1);
    // A copy, so that 50 bytes do not hold a whole chunk in memory.
    this.#tail = Buffer.from(seen.subarray(seen.length - keep));
    return undefined;
  }
}

/** What the host says first; see docs/agent-channel.md. */
export function helloLine(nonce: string): string {
  return `HEARTH/1 ${nonce}\n`;
}

/** What the agent answers to it. */
export function answerLine(nonce: string): string {
  return `HEARTH-OK/1 ${nonce}\n`;
}
