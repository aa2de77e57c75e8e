/** The HTTP side of hearthd: every route, its errors, and the OpenAPI document. */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { ERROR_CODES, errorBody, HearthError, toHearthError } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { admitRequest } from "#daemon/http/admit-request.ts";
import { limitBody } from "#daemon/http/limit-body.ts";
import { onlyVisible } from "#daemon/http/visible-vm.ts";
import { addDaemonRoutes } from "#daemon/http/daemon-routes.ts";
import { addEventRoute } from "#daemon/http/event-route.ts";
import { addLostFoundRoutes } from "#daemon/http/lost-found-routes.ts";
import { addFileRoutes } from "#daemon/http/file-routes.ts";
import { addFirecrackerRoutes } from "#daemon/http/firecracker-routes.ts";
import { addImageRoutes } from "#daemon/http/image-routes.ts";
import { addSnapshotRoutes } from "#daemon/http/snapshot-routes.ts";
import { addWarmRoutes } from "#daemon/http/warm-routes.ts";
import { addVmRoutes } from "#daemon/http/vm-routes.ts";
import { addVolumeRoutes } from "#daemon/http/volume-routes.ts";
import type { Call } from "#daemon/vm/vms.ts";
import type { OperationId } from "#model/ids.ts";

/** The variables of each request. */
export type ApiVariables = { operation: OperationId; signal: AbortSignal };
export type Api = OpenAPIHono<{ Variables: ApiVariables }>;
export type ApiContext = Context<{ Variables: ApiVariables }>;

/** All routes of a hearthd. Making it changes nothing; nobody listens yet. */
export function makeApi(daemon: Daemon): Api {
  const api: Api = new OpenAPIHono({
    // All that is wrong with a request at once, each with its field.
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
    const text = `The API has no ${method} ${path}, but ${methods.join(", ")}.`;
    const answer = answerError(daemon, new HearthError("api.wrong_method", text), context);
    answer.headers.set("allow", methods.join(", "));
    return answer;
  });
  addVmRoutes(api, daemon);
  addFileRoutes(api, daemon);
  addImageRoutes(api, daemon);
  addVolumeRoutes(api, daemon);
  addSnapshotRoutes(api, daemon);
  addWarmRoutes(api, daemon);
  addFirecrackerRoutes(api, daemon);
  addLostFoundRoutes(api, daemon);
  addDaemonRoutes(api, daemon);
  addEventRoute(api, daemon);
  api.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: {
      title: "Hearth",
      version: "1",
      description:
        "The API of hearthd, on a Unix socket. Commands run over the WebSockets /v1/run and /v1/vms/{vm}/exec, whose messages src/api/exec-stream.ts describes.",
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
  });
  return api;
}

/** The methods that this path has a route for. */
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

/** What went wrong with a request, for whoever looks in hearthd's log. */
export function logFailure(daemon: Daemon, thrown: unknown, context: ApiContext, code: ErrorCode): void {
  const operation = context.get("operation") as OperationId | undefined;
  const route = `${context.req.method} ${context.req.path}`;
  daemon.host.log
    .child({ operation: operation ?? "none" })
    .event("api.failed", { route, code, error: thrown });
}

/** Whatever a request fails with when its client has gone, is that. */
function clientGone(cause: unknown): HearthError {
  return new HearthError("operation.cancelled", "The client has gone.", { cause });
}

function answerError(daemon: Daemon, failure: unknown, context: ApiContext): Response {
  const thrown = context.req.raw.signal.aborted ? clientGone(failure) : daemon.ending.explain(failure);
  // Hono's own errors (malformed JSON) carry a status of the client's making.
  const status = (thrown as { status?: number }).status;
  const error =
    status !== undefined && status >= 400 && status < 500 && !(thrown instanceof HearthError)
      ? new HearthError("input.invalid", "The request cannot be read.", { hint: "Send JSON.", cause: thrown })
      : toHearthError(thrown);
  logFailure(daemon, thrown, context, error.code);
  const operation = context.get("operation") as OperationId | undefined;
  return context.json({ error: errorBody(error, operation) }, ERROR_CODES[error.code].status);
}

/** The call behind a request: cancelled with it, its progress published under its operation. */
export function callOf(context: ApiContext, daemon: Daemon): Call {
  const operation = context.get("operation");
  return {
    operation,
    signal: context.get("signal"),
    onProgress: (progress) => {
      daemon.host.bus.publish({ type: "progress", atMs: daemon.host.now(), operation, progress });
    },
  };
}
