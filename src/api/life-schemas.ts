/** The start and the end of a VM on the wire; see schemas.ts. */
import { z } from "@hono/zod-openapi";
import { START_STAGES } from "#model/start-stage.ts";
import { EXIT_REASONS } from "#model/vm-handle.ts";

/** The stages of a start with their durations. */
export const startStagesSchema = z.array(z.object({ stage: z.enum(START_STAGES), tookMs: z.int() }));

/** The end of a VMM. */
export const exitSchema = z.object({
  reason: z.enum(EXIT_REASONS),
  code: z.int().optional(),
  signal: z.string().optional(),
  atMs: z.int(),
});
