/** Commands in VMs on the wire: the first messages of the WebSockets, see exec-stream.ts. */
import { z } from "@hono/zod-openapi";
import { filePath } from "#api/parsed.ts";
import { env, word } from "#api/vm-fields.ts";
import { createVmSchema } from "#api/vm-schemas.ts";
import { LIMITS } from "#model/limits.ts";

export const ttySizeSchema = z.strictObject({
  rows: z.int().min(1).max(10_000).describe("Rows of the terminal"),
  cols: z.int().min(1).max(10_000).describe("Columns of the terminal"),
});

export const execSchema = z
  .strictObject({
    argv: z.array(z.string()).describe("Command and its arguments; no shell interprets them"),
    env: env.optional().describe("Environment variables, in addition to those of the VM"),
    user: word
      .optional()
      .describe("User name, or UID[:GID] (default: the user of the VM, or else of the image)"),
    workdir: filePath
      .optional()
      .describe("Working directory (default: that of the VM, or else of the image)"),
    tty: ttySizeSchema
      .extend({ term: word.describe("Value of TERM, such as xterm-256color") })
      .optional()
      .describe("Allocate a terminal of this size (default: none)"),
    stdin: z.boolean().optional().describe("Pass stdin on (default: false)"),
    detach: z
      .boolean()
      .optional()
      .describe("Let the command continue when the client disconnects (default: false)"),
    timeoutMs: z
      .int()
      .min(1)
      .max(LIMITS.lifetimeMaxMs)
      .optional()
      .describe("The command is ended after this time (default: none)"),
  })
  .openapi("Exec");

export const dialSchema = z
  .strictObject({ port: z.int().min(1).max(65535).describe("TCP port on the loopback of the guest") })
  .openapi("Dial");

export const runSchema = z
  .strictObject({
    vm: createVmSchema.openapi({ description: "The VM to create and start" }),
    exec: execSchema.openapi({ description: "The command to run in it" }),
  })
  .openapi("Run");
