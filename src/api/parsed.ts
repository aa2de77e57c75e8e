import { z } from "@hono/zod-openapi";
import { toError } from "#base/error.ts";

/** Returns the schema of a string that `parse` accepts. The message and hint of its error become the issue. */
export function parsed(parse: (text: string) => unknown) {
  return z.string().superRefine((text, context) => {
    try {
      parse(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
    }
  });
}

/** The path of a file, on the host or in a guest. */
export const filePath = z
  .string()
  .max(4096)
  .regex(/^[^\0]+$/, "must not contain a NUL byte");
