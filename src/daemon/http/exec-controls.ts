import type { ClientMessage } from "#api/exec-stream.ts";

/** The number of messages that may wait. A user's typing, and a program that forwards signals, stay far below it. */
const WAITING_MAX = 100;

/**
 * Sends signals and window sizes to a command, one after the other, in their order; of window sizes that wait, only the
 * newest. The queue is limited, so that a client that sends more than the guest takes does not fill hearthd's memory.
 */
export class ExecControls {
  readonly #send: (message: ClientMessage) => Promise<void>;
  readonly #tooMany: () => void;
  #waiting: ClientMessage[] = [];
  #sending = false;

  /** @param send rejects only for a bug of hearthd @param tooMany is called for each message that is dropped */
  constructor(send: (message: ClientMessage) => Promise<void>, tooMany: () => void) {
    this.#send = send;
    this.#tooMany = tooMany;
  }

  add(message: ClientMessage): void {
    if (message.type === "resize" && this.#waiting.at(-1)?.type === "resize") this.#waiting.pop();
    if (this.#waiting.length >= WAITING_MAX) return this.#tooMany();
    this.#waiting.push(message);
    if (!this.#sending) void this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    this.#sending = true;
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift())
        await this.#send(next);
    } finally {
      this.#sending = false;
    }
  }
}
