/**
 * Admits every request, exec and run, as the first middleware:
 *
 *   1. The answer gets hearthd's version and the operation's id: the one that the client names, or a new one.
 *   2. A request that changes something, or runs a command, is an operation that can be shown, waited for and
 *      cancelled.
 *   3. A hearthd that stops admits nothing. An admitted request gets its context (`request-context.ts`), whose signal
 *      aborts until the whole answer is sent.
 *   4. The operation ends as its answer says, and is logged.
 */
import type { MiddlewareHandler } from "hono";
import { DETACH_HEADER, OPERATION_HEADER, VERSION_HEADER } from "#api/events.ts";
import { errorBody } from "#base/error.ts";
import type { ErrorBody } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { bindingsOf, clientGone, explainFailure } from "#daemon/http/api.ts";
import type { ApiContext, ApiVariables } from "#daemon/http/api.ts";
import type { Operation } from "#daemon/operations/operation.ts";
import { requestContext } from "#daemon/operations/request-context.ts";
import { operationIdFrom, parseOperationId } from "#model/ids.ts";
import type { OperationId } from "#model/ids.ts";

/** Makes the middleware. */
export function admitRequest(daemon: Daemon): MiddlewareHandler<{ Variables: ApiVariables }> {
  return async (context, next) => {
    context.header(VERSION_HEADER, daemon.version);
    const id = operationIdOf(daemon, context.req.header(OPERATION_HEADER));
    context.header(OPERATION_HEADER, id);
    const client = clientSignal(context);
    context.set("client", client);
    const operation = bindingsOf(context).detached ?? beginOperation(daemon, context, id);
    if (operation === undefined) return work(daemon, context, id, client, next);
    context.set("running", operation);
    const leave = (): void => operation.abort(client.reason);
    client.addEventListener("abort", leave, { once: true });
    try {
      await work(daemon, context, id, operation.signal, next);
      await endOperation(daemon, context, operation, context.get("failure"));
    } catch (thrown) {
      const failure = errorBody(explainFailure(daemon, thrown, context), id);
      await endOperation(daemon, context, operation, failure);
      throw thrown;
    } finally {
      client.removeEventListener("abort", leave);
    }
  };
}

/**
 * Makes the signal that aborts when the client leaves before it has the whole answer. That of the request comes too
 * late: the server's adapter listens to the connection's end only after the middleware does, and then drops it.
 */
function clientSignal(context: ApiContext): AbortSignal {
  const { outgoing } = bindingsOf(context);
  if (outgoing === undefined) return context.req.raw.signal;
  const client = new AbortController();
  outgoing.once("close", () => {
    if (!outgoing.writableFinished) client.abort(clientGone());
  });
  return client.signal;
}

/** Tells whether a request changes something or runs a command. Requests about operations are none themselves. */
export function isOperation({ method, path }: ApiContext["req"]): boolean {
  return method !== "GET" && method !== "HEAD" && !/^\/v1\/operations(\/|$)/.test(path);
}

/** Names what is asked for: method and path. */
export function requestText({ method, path }: ApiContext["req"]): string {
  return `${method} ${path.slice(0, 200)}`;
}

function beginOperation(daemon: Daemon, context: ApiContext, id: OperationId): Operation | undefined {
  // A request to be detached begins its operation with its second request, which hearthd makes itself.
  if (!isOperation(context.req) || context.req.header(DETACH_HEADER) !== undefined) return undefined;
  return daemon.operations.begin({
    id,
    principal: bindingsOf(context).principal,
    request: requestText(context.req),
    detached: false,
    startedAtMs: daemon.host.now(),
  });
}

/** Runs the rest of a request as admitted work. */
async function work(
  daemon: Daemon,
  context: ApiContext,
  id: OperationId,
  signal: AbortSignal,
  next: () => Promise<void>,
): Promise<void> {
  const admitted = daemon.ending.admit(signal);
  const operation = context.get("running");
  const request = requestContext(daemon.host, {
    principal: operation?.principal ?? bindingsOf(context).principal,
    operation: id,
    signal: admitted.signal,
    onProgress: (progress) => {
      if (operation !== undefined) operation.progress = progress;
    },
  });
  context.set("request", request);
  // Missing for a command, for detached work, and in tests that call the API without a server.
  const { outgoing } = bindingsOf(context);
  outgoing?.once("close", () => admitted[Symbol.dispose]());
  try {
    await Promise.race([daemon.ending.track(next()), admitted.abandoned]);
  } finally {
    if (outgoing === undefined) admitted[Symbol.dispose]();
  }
}

async function endOperation(
  daemon: Daemon,
  context: ApiContext,
  operation: Operation,
  error: ErrorBody | undefined,
): Promise<void> {
  const { host, operations } = daemon;
  const answer = operation.detached && error === undefined ? await context.res.clone().text() : undefined;
  const atMs = host.now();
  if (error === undefined) operations.finish(operation, { state: "succeeded", atMs, answer });
  else {
    const state = error.code === "operation.cancelled" ? "cancelled" : "failed";
    operations.finish(operation, { state, atMs, error });
  }
  const { id, principal, request, startedAtMs } = operation;
  host.log.child({ operation: id }).event("operation.ended", {
    principal: principal.kind,
    request,
    state: operation.end?.state ?? "succeeded",
    tookMs: atMs - startedAtMs,
  });
}

/** Reads the operation that a client names in its request, or makes a new one. @throws HearthError `input.invalid` */
function operationIdOf(daemon: Pick<Daemon, "host">, given: string | undefined): OperationId {
  return given === undefined ? operationIdFrom(daemon.host.random(6)) : parseOperationId(given);
}
