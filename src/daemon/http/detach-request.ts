import type { MiddlewareHandler } from "hono";
import { DETACH_HEADER, OPERATION_HEADER } from "#api/events.ts";
import { HearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { isOperation, requestText } from "#daemon/http/admit-request.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api, ApiBindings, ApiContext, ApiVariables } from "#daemon/http/api.ts";
import { isStreamed } from "#daemon/http/limit-body.ts";
import { WEBSOCKET } from "#daemon/http/upgrade.ts";
import { operationView } from "#daemon/http/operation-routes.ts";

/**
 * Makes the middleware that answers a request with `hearth-detach: true` at once, with 202 and its operation. hearthd
 * then sends the request to itself, without that header: it passes all middleware again, has no client that could
 * leave, and its answer is kept with the operation.
 */
export function detachRequest(api: Api, daemon: Daemon): MiddlewareHandler<{ Variables: ApiVariables }> {
  return async (context, next) => {
    if (!asksToDetach(context)) return next();
    const { operation: id, principal } = requestOf(context);
    const body = await context.req.arrayBuffer();
    const operation = daemon.operations.begin({
      id,
      principal,
      request: requestText(context.req),
      detached: true,
      startedAtMs: daemon.host.now(),
    });
    const headers = new Headers(context.req.raw.headers);
    headers.delete(DETACH_HEADER);
    headers.set(OPERATION_HEADER, id);
    const { method, url } = context.req.raw;
    const again = new Request(url, { method, headers, ...(body.byteLength > 0 && { body }) });
    // Not awaited: `admitRequest` ends the operation, and has an answer for every failure.
    const bindings: ApiBindings = { principal, detached: operation };
    Promise.resolve(api.fetch(again, bindings)).catch((error: unknown) =>
      daemon.host.log.event("daemon.bug", { where: `detached ${operation.request}`, error }),
    );
    context.header("location", `/v1/operations/${id}`);
    return context.json(operationView(operation), 202);
  };
}

/** @throws HearthError `input.invalid`, `operation.not_detachable` */
function asksToDetach(context: ApiContext): boolean {
  const given = context.req.header(DETACH_HEADER);
  if (given === undefined) return false;
  if (given !== "true")
    throw new HearthError("input.invalid", `${DETACH_HEADER}: ${JSON.stringify(given)} must be true.`, {
      hint: "Leave the header out to wait for the response.",
    });
  const { method, path } = context.req;
  if (isOperation(context.req) && method !== WEBSOCKET && !isStreamed(path)) return true;
  throw new HearthError(
    "operation.not_detachable",
    `Cannot detach ${requestText(context.req)}: it only reads, or its request or response body is a stream.`,
    { hint: `Leave out ${DETACH_HEADER}.` },
  );
}
