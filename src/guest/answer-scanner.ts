/**
 * Finds the agent's answer in the bytes of the channel. A virtio-serial port keeps any number of bytes that an earlier
 * connection did not read, so everything before this connection's nonce is dropped.
 */
export class AnswerScanner {
  readonly #answer: Buffer;
  /** The last bytes seen, always fewer than the answer has, so that memory is bounded. */
  #tail: Buffer = Buffer.alloc(0);

  constructor(nonce: string) {
    this.#answer = Buffer.from(answerLine(nonce), "latin1");
  }

  /** Returns the bytes after the answer, or undefined until the answer is complete. */
  push(chunk: Uint8Array): Buffer | undefined {
    const seen = Buffer.concat([this.#tail, chunk]);
    const at = seen.indexOf(this.#answer);
    if (at !== -1) return seen.subarray(at + this.#answer.length);
    const keep = Math.min(seen.length, this.#answer.length - 1);
    // A copy: 50 bytes would keep the whole chunk in memory otherwise.
    this.#tail = Buffer.from(seen.subarray(seen.length - keep));
    return undefined;
  }
}

/** Returns the host's hello (docs/agent-channel.md). */
export function helloLine(nonce: string): string {
  return `HEARTH/1 ${nonce}\n`;
}

/** Returns the agent's answer to a hello. */
export function answerLine(nonce: string): string {
  return `HEARTH-OK/1 ${nonce}\n`;
}
