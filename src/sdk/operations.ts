import type { Operation } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import type { ErrorBody } from "#base/error.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import { errorFromBody } from "#sdk/transport.ts";
import type { Transport } from "#sdk/transport.ts";

/** The longest that one request waits. Then the client asks again, and so notices a hearthd that is gone. */
const WAIT = "60s";

/**
 * The operations of hearthd: running ones, and those that ended lately. Operations are requests that change something,
 * and commands in guests. hearthd keeps them in memory only.
 *
 * @example
 * const { id } = await hearth.vm("web").start({ detach: true });
 * await hearth.operations.wait(id);
 */
export class Operations {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Lists the running operations, and then the ended ones, newest first. The results are left out. */
  list(signal?: AbortSignal): Promise<readonly Operation[]> {
    return this.#transport.json("GET", "/v1/operations", {}, signal);
  }

  /** Returns an operation. @throws HearthError `operation.not_found`. */
  show(id: string, signal?: AbortSignal): Promise<Operation> {
    return this.#transport.json("GET", pathOf(id), {}, signal);
  }

  /** Asks hearthd to cancel an operation, and returns at once. `wait` resolves when its steps have been undone. */
  cancel(id: string, signal?: AbortSignal): Promise<Operation> {
    return this.#transport.json("POST", `${pathOf(id)}/cancel`, {}, signal);
  }

  /** Resolves when the operation has ended, even if it failed. To get its result or its error, use `result`. */
  async wait(id: string, { onProgress, signal }: LongOptions = {}): Promise<Operation> {
    if (onProgress === undefined) return this.#untilEnded(id, signal);
    const { followProgress } = await import("#sdk/follow-operation.ts");
    await using _progress = await followProgress(this.#transport, id, onProgress, signal);
    return await this.#untilEnded(id, signal);
  }

  /**
   * Waits for a detached operation and returns its result.
   * @throws HearthError the error with which the operation failed.
   */
  async result<Answer>(id: string, options: LongOptions = {}): Promise<Answer> {
    const { state, error, result } = await this.wait(id, options);
    if (error !== undefined) throw errorFromBody(error as ErrorBody);
    if (state === "succeeded") return result as Answer;
    throw new HearthError("internal.bug", `Operation ${id} ended as ${state}, without an error.`);
  }

  async #untilEnded(id: string, signal: AbortSignal | undefined): Promise<Operation> {
    for (;;) {
      const query = { wait: WAIT };
      const operation = await this.#transport.json<Operation>("GET", pathOf(id), { query }, signal);
      if (operation.state !== "running" && operation.state !== "cancelling") return operation;
    }
  }
}

function pathOf(id: string): string {
  return `/v1/operations/${encodeURIComponent(id)}`;
}
