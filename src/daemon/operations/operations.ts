/**
 * Keeps the operations of hearthd in memory: those under way, and those that have ended lately.
 *
 *   1. `begin` admits one under its id; an id that is under way is refused.
 *   2. The code that does the work calls `finish`: with the answer of a detached operation, or with the error.
 *   3. Ended ones are kept until `LIMITS.operationsKept` newer ones have ended. Detached ones are counted separately,
 *      so that many short commands do not displace a result that a client asks for later.
 *
 * A hearthd that ends loses all of them; detached work that is under way is aborted and undone, as any other.
 */
import { HearthError } from "#base/error.ts";
import { Operation } from "#daemon/operations/operation.ts";
import type { NewOperation, OperationEnd } from "#daemon/operations/operation.ts";
import { LIMITS } from "#model/limits.ts";
import type { OperationId } from "#model/ids.ts";

/** Knows every operation by its id. */
export class Operations {
  readonly #underWay = new Map<OperationId, Operation>();
  /** Oldest first. */
  readonly #ended = new Map<OperationId, Operation>();

  /** Begins an operation. @throws HearthError `operation.taken`, `operation.too_many` */
  begin(operation: NewOperation): Operation {
    const { id, detached } = operation;
    if (this.#underWay.has(id))
      throw new HearthError(
        "operation.taken",
        `Cannot begin ${id}: an operation with this ID is in progress.`,
        {
          hint: "Leave out the ID, or use a new one for each request.",
        },
      );
    if (detached && this.#detachedUnderWay() >= LIMITS.detachedMax)
      throw new HearthError(
        "operation.too_many",
        `Cannot detach ${id}: ${LIMITS.detachedMax} detached operations are in progress, which is the limit.`,
        { hint: "`hearth operation ls` lists them; wait for one, or cancel it." },
      );
    const begun = new Operation(operation);
    this.#ended.delete(id);
    this.#underWay.set(id, begun);
    return begun;
  }

  finish(operation: Operation, end: OperationEnd): void {
    if (this.#underWay.get(operation.id) !== operation) return;
    operation.finish(end);
    this.#underWay.delete(operation.id);
    this.#ended.set(operation.id, operation);
    this.#dropOldest(operation.detached);
  }

  find(id: OperationId): Operation | undefined {
    return this.#underWay.get(id) ?? this.#ended.get(id);
  }

  /** @throws HearthError `operation.not_found` */
  get(id: OperationId): Operation {
    const operation = this.find(id);
    if (operation !== undefined) return operation;
    throw new HearthError("operation.not_found", `There is no operation ${id}.`, {
      hint: "hearthd keeps a limited number of operations, and none when it stops. `hearth ls` shows the state of the VMs.",
    });
  }

  /** Lists those under way, the newest first, and then those that have ended. */
  list(): Operation[] {
    return [...[...this.#underWay.values()].toReversed(), ...[...this.#ended.values()].toReversed()];
  }

  #detachedUnderWay(): number {
    return [...this.#underWay.values()].filter(({ detached }) => detached).length;
  }

  #dropOldest(detached: boolean): void {
    const alike = [...this.#ended.values()].filter((one) => one.detached === detached);
    for (const { id } of alike.slice(0, Math.max(0, alike.length - LIMITS.operationsKept)))
      this.#ended.delete(id);
  }
}
