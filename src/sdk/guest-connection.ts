import { Duplex } from "node:stream";
import type { GuestProcess } from "#sdk/guest-process.ts";

/**
 * A connection to a port of a guest, which `GuestProcess` carries: what is written is its stdin, what is read its
 * stdout. Each end may end its side alone. Destroying it closes the connection.
 */
export class GuestConnection extends Duplex {
  readonly #process: GuestProcess;

  constructor(process: GuestProcess) {
    super({ allowHalfOpen: true });
    this.#process = process;
    const { stdout, exited } = process;
    stdout.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) stdout.pause();
    });
    exited.then(
      () => this.#endReading(),
      (error: Error) => this.destroy(error),
    );
  }

  override _read(): void {
    this.#process.stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#process.stdin.write(chunk, done);
  }

  override _final(done: () => void): void {
    // Where the other end has gone, there is nothing left to end.
    this.#process.stdin.end(() => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#process.close();
    done(error);
  }

  /** Ends when all that came is read: `exited` may resolve before. */
  #endReading(): void {
    const { stdout } = this.#process;
    if (stdout.readableEnded) this.push(null);
    else stdout.once("end", () => this.push(null));
  }
}
