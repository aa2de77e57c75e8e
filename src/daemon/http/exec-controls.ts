import type { ClientMessage } from "#api/exec-stream.ts";

/** A person's hands, and a program that forwards signals, stay far below it. */
const WAITING_MAX = 100;

/**
 * Signals and window sizes on their way to a command: one after the other, in their order, and of window sizes that
 * wait the newest alone. A client that sends more than the guest takes makes hearthd keep no more of them.
 */
export class ExecControls {
  readonly #send: (message: ClientMessage) => Promise<void>;
  readonly #tooMany: () => void;
  #waiting: ClientMessage[] = [];
  #sending = false;

  /** @param send rejects only where hearthd itself is wrong. @param tooMany is called for each message that is dropped */
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
