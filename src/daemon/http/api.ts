/** Makes the HTTP API of hearthd: every route, its errors, and the OpenAPI document. */
import type { ServerResponse } from "node:http";
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { getPath } from "hono/utils/url";
import { REFERENCED_SCHEMAS } from "#api/routes.ts";
import { ERROR_CODES, errorBody, HearthError, invariant, toHearthError } from "#base/error.ts";
import type { ErrorBody, ErrorCode } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { admitRequest } from "#daemon/http/admit-request.ts";
import { limitBody } from "#daemon/http/limit-body.ts";
import { onlyVisible } from "#daemon/http/visible-vm.ts";
import { addDaemonRoutes } from "#daemon/http/daemon-routes.ts";
import { addEventRoute } from "#daemon/http/event-route.ts";
import { detachRequest } from "#daemon/http/detach-request.ts";
import { addNetworkRoutes } from "#daemon/http/network-routes.ts";
import { addOperationRoutes } from "#daemon/http/operation-routes.ts";
import { addLostFoundRoutes } from "#daemon/http/lost-found-routes.ts";
import { addExecSockets } from "#daemon/http/exec-sockets.ts";
import { WEBSOCKET } from "#daemon/http/upgrade.ts";
import type { Upgrade } from "#daemon/http/upgrade.ts";
import { addFileRoutes } from "#daemon/http/file-routes.ts";
import { addFirecrackerRoutes } from "#daemon/http/firecracker-routes.ts";
import { addImageRoutes } from "#daemon/http/image-routes.ts";
import { addSnapshotRoutes } from "#daemon/http/snapshot-routes.ts";
import { addTemplateRoutes } from "#daemon/http/template-routes.ts";
import { addVmRoutes } from "#daemon/http/vm-routes.ts";
import { addVolumeRoutes } from "#daemon/http/volume-routes.ts";
import { isCancelled } from "#daemon/lifecycle/ending.ts";
import { cancelled } from "#daemon/operations/operation.ts";
import type { Operation } from "#daemon/operations/operation.ts";
import type { RequestContext } from "#daemon/operations/request-context.ts";
import type { Principal } from "#model/principal.ts";

/** The variables of each request. */
export type ApiVariables = {
  request: RequestContext;
  /** Aborts when the client leaves. */
  client?: AbortSignal;
  /** The operation that a client can show and cancel, if the request is one. */
  running?: Operation;
  /** The error that the request has failed with. */
  failure?: ErrorBody;
};
export type Api = OpenAPIHono<{ Variables: ApiVariables }>;
export type ApiContext = Context<{ Variables: ApiVariables }>;

/** The parts of a request beside its head and body. */
export type ApiBindings = {
  /** The principal: of the listener's client, or of a detached request that hearthd sends to itself. */
  readonly principal: Principal;
  /** The server's answer; missing where there is no HTTP client. */
  readonly outgoing?: ServerResponse | undefined;
  /** The operation of a request that hearthd sends to itself. */
  readonly detached?: Operation | undefined;
  /** The connection of a request that wants to become a WebSocket. */
  readonly upgrade?: Upgrade | undefined;
};

/** The path of templates in older builds, which stays as an alias. */
const OLDER_TEMPLATES = /^\/v1\/warm(?=\/|$)/;

/** The introduction of the OpenAPI document. */
const DESCRIPTION = [
  "The API of hearthd, on a Unix socket: `$HEARTH_HOME/run/hearthd.sock` if HEARTH_HOME is set, else `$XDG_RUNTIME_DIR/hearth/hearthd.sock`, or `~/.local/state/hearth/run/hearthd.sock` where there is no XDG_RUNTIME_DIR.",
  "Fields that end in `Ms` are milliseconds (`…AtMs`: since 1970, UTC), in `Bytes` bytes. Optional fields are absent where they do not apply.",
  "Commands run over the WebSockets /v1/run and /v1/vms/{vm}/exec. The first message is a `Run` or an `Exec` (src/api/exec-schemas.ts); src/api/exec-stream.ts describes all messages. /v1/vms/{vm}/dial connects to a port of the guest, in the same way.",
  "GET /v1/events is a stream of server-sent events (src/api/events.ts); `?operation=op-…` adds the progress of one operation.",
  "Each request that changes something, and each command, is an operation. The header `hearth-operation: op-…` (12 hexadecimal digits) gives it an ID, and the response has the same header. If the client disconnects, hearthd cancels the request and undoes its steps; a stop, restart or kill, and a removal that has begun, is finished instead.",
  "With `hearth-detach: true`, the request continues without its client: the response is 202 with the operation, and GET /v1/operations/{operation} has the result later. A request whose body or response is a stream cannot be detached; at most 100 detached operations are in progress.",
].join("\n\n");

/** Makes all routes of a hearthd. Changes nothing, and does not listen yet. */
export function makeApi(daemon: Daemon): Api {
  const api: Api = new OpenAPIHono({
    getPath: (request) => getPath(request).replace(OLDER_TEMPLATES, "/v1/templates"),
    // Reports all that is wrong with a request at once, each with its field.
    defaultHook: (result) => {
      if (result.success) return;
      const problems = result.error.issues.map(
        (issue) => `${issue.path.join(".") || result.target}: ${issue.message}`,
      );
      throw new HearthError("input.invalid", problems.join("; ").slice(0, 4_000), {
        hint: "GET /openapi.json describes every request.",
      });
    },
  });
  api.use(admitRequest(daemon));
  api.use(limitBody());
  for (const path of ["/v1/vms/:vm", "/v1/vms/:vm/*"]) api.use(path, onlyVisible(daemon));
  api.use(detachRequest(api, daemon));
  api.onError((error, context) => answerError(daemon, error, context));
  api.notFound((context) => {
    const { method, path } = context.req;
    const methods = methodsOf(api, path);
    if (methods.length === 0)
      return answerError(
        daemon,
        new HearthError("api.not_found", `The API has no ${method} ${path}.`),
        context,
      );
    return wrongMethod(daemon, context, methods);
  });
  for (const [name, schema] of Object.entries(REFERENCED_SCHEMAS)) api.openAPIRegistry.register(name, schema);
  addVmRoutes(api, daemon);
  addExecSockets(api, daemon);
  addFileRoutes(api, daemon);
  addImageRoutes(api, daemon);
  addNetworkRoutes(api, daemon);
  addVolumeRoutes(api, daemon);
  addSnapshotRoutes(api, daemon);
  addTemplateRoutes(api, daemon);
  addFirecrackerRoutes(api, daemon);
  addLostFoundRoutes(api, daemon);
  addOperationRoutes(api, daemon);
  addDaemonRoutes(api, daemon);
  addEventRoute(api, daemon);
  api.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "Hearth",
      version: "1",
      description: DESCRIPTION,
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
  });
  return api;
}

function wrongMethod(daemon: Daemon, context: ApiContext, methods: readonly string[]): Response {
  const { method, path } = context.req;
  const http = methods.filter((one) => one !== WEBSOCKET);
  const isSocket = http.length === 0;
  const error = isSocket
    ? new HearthError("api.websocket_only", `${path} is a WebSocket.`, {
        hint: "Send a handshake: `connection: upgrade` and `upgrade: websocket`.",
      })
    : new HearthError("api.wrong_method", `The API has no ${method} ${path}, but ${http.join(", ")}.`);
  const answer = answerError(daemon, error, context);
  if (isSocket) answer.headers.set("upgrade", "websocket");
  else answer.headers.set("allow", http.join(", "));
  return answer;
}

/** Returns the methods that this path has a route for. */
function methodsOf(api: Api, path: string): string[] {
  const segments = path.split("/");
  const isRoute = (pattern: string): boolean => {
    const parts = pattern.split("/");
    return (
      parts.length === segments.length &&
      parts.every((part, index) => part.startsWith(":") || part === segments[index])
    );
  };
  const methods = api.routes.filter(({ path: pattern }) => isRoute(pattern)).map(({ method }) => method);
  return [...new Set(methods)].filter((method) => method !== "ALL").toSorted();
}

/** Logs what went wrong with a request. */
export function logFailure(daemon: Daemon, thrown: unknown, context: ApiContext, code: ErrorCode): void {
  const request = context.get("request") as RequestContext | undefined;
  const route = `${context.req.method} ${context.req.path}`;
  daemon.host.log
    .child({ operation: request?.operation ?? "none", principal: request?.principal.kind ?? "none" })
    .event("api.failed", { route, code, error: thrown });
}

/** Returns the error of a request whose client has gone, whatever it failed with. */
export function clientGone(cause?: unknown): HearthError {
  return new HearthError("operation.cancelled", "The client has disconnected.", { cause });
}

/**
 * Returns the reason for which a request failed: its client has gone, it was cancelled, or hearthd stops; else the
 * failure itself.
 */
export function explainFailure(daemon: Daemon, failure: unknown, context: ApiContext): unknown {
  if (context.get("client")?.aborted === true) return clientGone(failure);
  if (context.get("running")?.isCancelled === true && isCancelled(failure)) return cancelled(failure);
  return daemon.ending.explain(failure);
}

function answerError(daemon: Daemon, failure: unknown, context: ApiContext): Response {
  const thrown = explainFailure(daemon, failure, context);
  // Hono's own errors (malformed JSON) carry the status of a client's fault.
  const status = (thrown as { status?: number }).status;
  const error =
    status !== undefined && status >= 400 && status < 500 && !(thrown instanceof HearthError)
      ? new HearthError("input.invalid", "Cannot read the request.", { hint: "Send JSON.", cause: thrown })
      : toHearthError(thrown);
  // A client that goes away is no failure of the API.
  if (context.get("client")?.aborted !== true) logFailure(daemon, thrown, context, error.code);
  const request = context.get("request") as RequestContext | undefined;
  const body = errorBody(error, request?.operation);
  context.set("failure", body);
  return context.json({ error: body }, ERROR_CODES[error.code].status);
}

/** Returns the context that a request was admitted with. */
export function requestOf(context: ApiContext): RequestContext {
  return context.get("request");
}

/** Returns the bindings of a request. A caller of the API without a server sets the principal, too. */
export function bindingsOf(context: ApiContext): ApiBindings {
  const bindings = context.env as Partial<ApiBindings> | undefined;
  invariant(bindings?.principal, "a request has a principal");
  return bindings as ApiBindings;
}
