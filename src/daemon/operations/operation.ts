import { HearthError } from "#base/error.ts";
import type { ErrorBody } from "#base/error.ts";
import type { Progress } from "#base/progress.ts";
import type { OperationId } from "#model/ids.ts";
import type { Principal } from "#model/principal.ts";

/** The end of an operation. */
export type OperationEnd =
  | { readonly state: "succeeded"; readonly atMs: number; readonly answer?: string | undefined }
  | { readonly state: "failed" | "cancelled"; readonly atMs: number; readonly error: ErrorBody };

export type NewOperation = {
  readonly id: OperationId;
  readonly principal: Principal;
  /** Method and path, such as `POST /v1/vms/web/start`. */
  readonly request: string;
  /** True if it continues without its client. */
  readonly detached: boolean;
  readonly startedAtMs: number;
};

/** A request that changes something, or runs a command, from its admission to its end. */
export class Operation {
  readonly id: OperationId;
  readonly principal: Principal;
  readonly request: string;
  readonly detached: boolean;
  readonly startedAtMs: number;
  /** The last progress that was reported. */
  progress: Progress | undefined;
  readonly #abort = new AbortController();
  readonly #ended = Promise.withResolvers<void>();
  #end: OperationEnd | undefined;
  #isCancelled = false;
  #isLasting = false;

  constructor({ id, principal, request, detached, startedAtMs }: NewOperation) {
    this.id = id;
    this.principal = principal;
    this.request = request;
    this.detached = detached;
    this.startedAtMs = startedAtMs;
  }

  /** Aborts when the operation is cancelled, and when `abort` is called. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get end(): OperationEnd | undefined {
    return this.#end;
  }

  /** Resolves at the end of the operation, whatever that is. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** True once it was cancelled, before and after its end. */
  get isCancelled(): boolean {
    return this.#isCancelled;
  }

  get isCancellable(): boolean {
    return this.#end === undefined && !this.#isLasting;
  }

  /** Aborts the signal for another reason than `cancel`, such as that the client has gone. */
  abort(reason: unknown): void {
    this.#abort.abort(reason);
  }

  /**
   * Aborts the work, which undoes what it has begun before it ends. Idempotent, also after the end.
   * @throws HearthError `operation.lasting`
   */
  cancel(): void {
    if (this.#end !== undefined || this.#isCancelled) return;
    if (this.#isLasting)
      throw new HearthError(
        "operation.lasting",
        `Cannot cancel ${this.id} (${this.request}): a stop that has begun cannot be undone.`,
        {
          hint: `Wait for it: \`hearth operation wait ${this.id}\`. \`hearth kill VM\` stops the VM immediately.`,
        },
      );
    this.#isCancelled = true;
    this.#abort.abort(cancelled());
  }

  /** Refuses to cancel the work from now on. @throws HearthError `operation.cancelled` if it was cancelled before */
  makeLasting(): void {
    if (this.#isCancelled) this.#abort.signal.throwIfAborted();
    this.#isLasting = true;
  }

  finish(end: OperationEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#ended.resolve();
  }
}

/** Returns the error of cancelled work. */
export function cancelled(cause?: unknown): HearthError {
  return new HearthError("operation.cancelled", "The operation was cancelled.", { cause });
}
