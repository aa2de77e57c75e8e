import { bodyLimit } from "hono/body-limit";
import type { MiddlewareHandler } from "hono";
import { HearthError } from "#base/error.ts";

/** The largest requests hold an environment. A body that is read at once is in memory several times. */
const BODY_MAX_BYTES = 4 * 1024 * 1024;
/** Bodies that are read as they come, and take no memory to speak of. */
const STREAMED = [/^\/v1\/vms\/[^/]+\/files$/, /^\/v1\/snapshots\/import$/];

/** Refuses bodies that would fill hearthd's memory, with `input.invalid`. */
export function limitBody(maxBytes = BODY_MAX_BYTES): MiddlewareHandler {
  const limit = bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new HearthError("input.invalid", `The body of the request has more than ${maxBytes} bytes.`, {
        hint: "GET /openapi.json describes every request.",
      });
    },
  });
  return (context, next) => (isStreamed(context.req.path) ? next() : limit(context, next));
}

/** Whether the body of a request, or its answer, is read as it comes. */
export function isStreamed(path: string): boolean {
  return STREAMED.some((pattern) => pattern.test(path));
}
