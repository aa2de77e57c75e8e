import type { Operation } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import type { ErrorBody } from "#base/error.ts";
import type { LongOptions } from "#sdk/long-request.ts";
import { errorFromBody } from "#sdk/transport.ts";
import type { Transport } from "#sdk/transport.ts";

/** One request waits so long; then it asks again, so that a hearthd that is gone is noticed. */
const WAIT = "60s";

/**
 * What hearthd was asked for that changes something, and commands that run: what is under way, and what ended lately.
 * hearthd keeps them in memory, and forgets them when it ends.
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

  /** Newest first: those under way, and then those that have ended. Results are left out. */
  list(signal?: AbortSignal): Promise<readonly Operation[]> {
    return this.#transport.json("GET", "/v1/operations", {}, signal);
  }

  /** @throws HearthError `operation.not_found` */
  show(id: string, signal?: AbortSignal): Promise<Operation> {
    return this.#transport.json("GET", pathOf(id), {}, signal);
  }

  /** Cancels an operation, and answers at once: `wait` tells when it has undone what it had begun. */
  cancel(id: string, signal?: AbortSignal): Promise<Operation> {
    return this.#transport.json("POST", `${pathOf(id)}/cancel`, {}, signal);
  }

  /** Resolves when the operation has ended, also when it has failed: `result` throws then. */
  async wait(id: string, { onProgress, signal }: LongOptions = {}): Promise<Operation> {
    if (onProgress === undefined) return this.#untilEnded(id, signal);
    const { followProgress } = await import("#sdk/follow-operation.ts");
    await using _progress = await followProgress(this.#transport, id, onProgress, signal);
    return await this.#untilEnded(id, signal);
  }

  /**
   * Waits for a detached operation, and resolves with its answer.
   * @throws HearthError what the operation failed with
   */
  async result<Answer>(id: string, options: LongOptions = {}): Promise<Answer> {
    const { state, error, result } = await this.wait(id, options);
    if (error !== undefined) throw errorFromBody(error as ErrorBody);
    if (state === "succeeded") return result as Answer;
    throw new HearthError("internal.bug", `The operation ${id} ended as ${state}, and does not say why.`);
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
