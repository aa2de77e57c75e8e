import { ROUTES } from "#api/routes.ts";
import type { Operation as OperationView } from "#api/wire.ts";
import { unlessAborted, within } from "#base/deadline.ts";
import { parseDuration } from "#base/durations.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import type { Operation } from "#daemon/operations/operation.ts";
import { parseOperationId } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";

const WAIT = { minMs: 1, maxMs: LIMITS.operationWaitMaxMs };

/** Adds the routes of operations: those under way, and how they ended. */
export function addOperationRoutes(api: Api, { operations }: Daemon): void {
  api.openapi(ROUTES.listOperations, (c) => {
    const listed = operations.list().map((operation) => {
      const { result: _, ...rest } = operationView(operation);
      return rest;
    });
    return c.json(listed, 200);
  });
  api.openapi(ROUTES.showOperation, async (c) => {
    const operation = operations.get(parseOperationId(c.req.valid("param").operation));
    const { wait } = c.req.valid("query");
    if (wait !== undefined) {
      const ended = within(operation.ended, parseDuration("wait", wait, WAIT));
      await unlessAborted(ended, requestOf(c).signal);
    }
    return c.json(operationView(operation), 200);
  });
  api.openapi(ROUTES.cancelOperation, (c) => {
    const operation = operations.get(parseOperationId(c.req.valid("param").operation));
    operation.cancel();
    return c.json(operationView(operation), 200);
  });
}

/** Describes an operation for clients. */
export function operationView(operation: Operation): OperationView {
  const { id, principal, request, detached, startedAtMs, progress, end, isCancelled, isCancellable } =
    operation;
  return {
    id,
    principal: principal.kind,
    request,
    detached,
    state: end?.state ?? (isCancelled ? "cancelling" : "running"),
    cancellable: isCancellable,
    startedAtMs,
    progress: progress && { ...progress },
    ...(end !== undefined && { endedAtMs: end.atMs }),
    ...(end?.state === "succeeded" && end.answer && { result: JSON.parse(end.answer) as unknown }),
    ...(end !== undefined && end.state !== "succeeded" && { error: end.error }),
  };
}
