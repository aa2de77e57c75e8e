/** The error of a request on the wire. */
import { z } from "@hono/zod-openapi";

export const errorSchema = z
  .object({
    error: z
      .object({
        code: z.string().describe("Stable code for programs; docs/errors.md lists all codes"),
        message: z.string().describe("What could not be done and why, for people"),
        hint: z.string().optional().describe("What the user can do"),
        operation: z.string().optional().describe("ID of the request, as in hearthd's log"),
      })
      .describe("The error"),
  })
  .openapi("Error");
