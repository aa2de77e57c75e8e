import { z } from "@hono/zod-openapi";
import { toError } from "#base/error.ts";

/** A string that the model's own parser takes; its sentence and hint become the issue. */
export function parsed(parse: (text: string) => unknown) {
  return z.string().superRefine((text, context) => {
    try {
      parse(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
    }
  });
}
