import { bodyLimit } from "hono/body-limit";
import type { MiddlewareHandler } from "hono";
import { HearthError } from "#base/error.ts";
import { LIMITS } from "#model/limits.ts";

/** Requests whose bodies are read in pieces, and take little memory. */
const STREAMED = [/^\/v1\/vms\/[^/]+\/files$/, /^\/v1\/snapshots\/import$/];

/** Refuses bodies that would fill hearthd's memory, with `input.too_large`. */
export function limitBody(maxBytes = LIMITS.requestMaxBytes): MiddlewareHandler {
  const limit = bodyLimit({
    maxSize: maxBytes,
    onError: () => {
      throw new HearthError("input.too_large", `The body of the request has more than ${maxBytes} bytes.`, {
        hint: "Long environment variables are the usual reason: copy them into the VM as a file with `hearth cp`.",
      });
    },
  });
  return (context, next) => (isStreamed(context.req.path) ? next() : limit(context, next));
}

/** Tells whether the body of a request, or its answer, is read in pieces. */
export function isStreamed(path: string): boolean {
  return STREAMED.some((pattern) => pattern.test(path));
}
