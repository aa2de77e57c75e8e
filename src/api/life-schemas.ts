/** The start and the end of a VM on the wire; see vm-view-schemas.ts. */
import { z } from "@hono/zod-openapi";
import { START_STAGES } from "#model/start-stage.ts";
import { EXIT_REASONS } from "#model/vm-handle.ts";

/** The stages of a start with their durations. */
export const startStagesSchema = z.array(
  z.object({
    stage: z
      .enum(START_STAGES)
      .describe(
        "host: waiting for a turn and for resources of the host. disk: making the disk. vmm: starting the VMM, or loading a snapshot. guest: until the agent answers. identity: setting the guest identity. init: until the image's own init has started the agent",
      ),
    tookMs: z.int().describe("Duration of the stage"),
  }),
);

/** The end of a VMM. */
export const exitSchema = z.object({
  reason: z
    .enum(EXIT_REASONS)
    .describe(
      "guest: the guest powered itself off. rebooted: it reset the machine, to boot again. panicked: its kernel panicked. (These are claims of the guest.) asked: hearthd ended the VMM. died: the VMM ended without a request. unseen: it ended while hearthd was not running",
    ),
  code: z.int().optional().describe("Exit code of the VMM, if hearthd saw it"),
  signal: z.string().optional().describe("Signal that ended the VMM, such as SIGKILL"),
  atMs: z.int().describe("Time of the end"),
});
