/** The routes of operations: requests that change something, and commands in guests. */
import { createRoute, z } from "@hono/zod-openapi";
import { answers } from "#api/route-parts.ts";
import { parsed } from "#api/parsed.ts";
import { errorSchema } from "#api/error-schema.ts";
import { parseOperationId } from "#model/ids.ts";

export const OPERATION_STATES = ["running", "cancelling", "succeeded", "failed", "cancelled"] as const;

const progressSchema = z.object({
  stage: z.string().describe("Part of the work, such as boot"),
  text: z.string().describe("A short line for people"),
  doneBytes: z.int().optional().describe("Bytes that are done"),
  totalBytes: z.int().optional().describe("Bytes of the whole part"),
});

export const operationSchema = z
  .object({
    id: z.string().describe("ID of the operation"),
    principal: z.string().describe("Kind of the requester: `owner`, the user who runs hearthd"),
    request: z.string().describe("Method and path, such as `POST /v1/vms/web/start`"),
    detached: z.boolean().describe("True if it continues without its client; its result is kept then"),
    state: z
      .enum(OPERATION_STATES)
      .describe("State of the operation; `cancelling` while its steps are being undone"),
    cancellable: z.boolean().describe("False for a stop, restart or kill that has begun, and after the end"),
    startedAtMs: z.int().describe("Time of the start"),
    endedAtMs: z.int().optional().describe("Time of the end; absent while it is in progress"),
    progress: progressSchema.optional().describe("The last progress that it reported"),
    result: z
      .unknown()
      .optional()
      .describe("The response to a detached operation that succeeded; absent in lists"),
    error: errorSchema.shape.error
      .optional()
      .describe("The error of an operation that failed or was cancelled"),
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
