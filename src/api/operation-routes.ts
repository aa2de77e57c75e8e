/** The routes of operations: requests that change something, and commands in guests. */
import { createRoute, z } from "@hono/zod-openapi";
import { answers } from "#api/route-parts.ts";
import { parsed } from "#api/parsed.ts";
import { errorSchema } from "#api/schemas.ts";
import { parseOperationId } from "#model/ids.ts";

export const OPERATION_STATES = ["running", "cancelling", "succeeded", "failed", "cancelled"] as const;

const progressSchema = z.object({
  stage: z.string(),
  text: z.string(),
  doneBytes: z.int().optional(),
  totalBytes: z.int().optional(),
});

export const operationSchema = z
  .object({
    id: z.string(),
    /** The principal that made the request: `owner`, the user who runs hearthd. */
    principal: z.string(),
    /** Method and path, such as `POST /v1/vms/web/start`. */
    request: z.string(),
    /** True if it continues without its client. Its result is kept then. */
    detached: z.boolean(),
    state: z.enum(OPERATION_STATES),
    cancellable: z.boolean(),
    startedAtMs: z.int(),
    endedAtMs: z.int().optional(),
    /** The last progress that it reported. */
    progress: progressSchema.optional(),
    /** The result of a detached operation that succeeded; left out in lists. */
    result: z.unknown().optional(),
    error: errorSchema.shape.error.optional(),
  })
  .openapi("Operation");

const operationParam = z.object({
  operation: parsed(parseOperationId).openapi({
    param: { name: "operation", in: "path" },
    description: "ID of the operation",
    example: "op-0123456789ab",
  }),
});
const wait = z.string().openapi({
  description:
    "Time to wait for the end of the operation, at most 10m; the response shows whether it has ended",
  example: "30s",
});

export const OPERATION_ROUTES = {
  listOperations: createRoute({
    method: "get",
    path: "/v1/operations",
    operationId: "listOperations",
    summary: "List operations in progress and recently ended ones, newest first",
    responses: answers(z.array(operationSchema), "The operations, without results"),
  }),
  showOperation: createRoute({
    method: "get",
    path: "/v1/operations/{operation}",
    operationId: "showOperation",
    summary: "Show an operation with its result or error; with wait, wait for its end",
    request: { params: operationParam, query: z.object({ wait: wait.optional() }) },
    responses: answers(operationSchema, "The operation"),
  }),
  cancelOperation: createRoute({
    method: "post",
    path: "/v1/operations/{operation}/cancel",
    operationId: "cancelOperation",
    summary: "Cancel an operation and undo its changes; an operation that has ended is left as it is",
    request: { params: operationParam },
    responses: answers(operationSchema, "The operation, which may still be in progress for a moment"),
  }),
} as const;
