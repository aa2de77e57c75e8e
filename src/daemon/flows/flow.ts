/** Flows are lists of steps with undo; this runs them, takes them back, and goes on with them. */
import { Undo } from "#base/undo.ts";
import type { Log } from "#base/log.ts";
import type { FlowKind, Journal, StepEvent } from "#daemon/journal.ts";

export type Step<Context> = {
  readonly name: string;
  run(context: Context): Promise<void>;
  /** Idempotent, and safe when `run` got only half way or never began. Without one, there is nothing to undo. */
  undo?(context: Context): Promise<void>;
};

export type Flow<Context> = {
  readonly kind: FlowKind;
  /** After a crash of hearthd: take back what was done, or do the rest. */
  readonly afterCrash: "unwind" | "finish";
  readonly steps: readonly Step<Context>[];
};

/** Runs all steps, or takes back those that began, the failing one too, and throws what it failed with. */
export async function runFlow<Context>(
  flow: Flow<Context>,
  context: Context,
  journal: Journal,
  log: Log,
): Promise<void> {
  await using undo = new Undo((step, error) =>
    log.event("flow.undo_failed", { flow: flow.kind, step, error }),
  );
  for (const step of flow.steps) {
    journal.write(step.name, "started");
    if (flow.afterCrash === "unwind") {
      undo.add(step.name, async () => {
        await step.undo?.(context);
        journal.write(step.name, "undone");
      });
    }
    const startedAt = performance.now();
    await step.run(context);
    journal.write(step.name, "done");
    log.event("flow.step", {
      flow: flow.kind,
      step: step.name,
      tookMs: Math.round(performance.now() - startedAt),
    });
  }
  undo.keep();
}

/** After a crash: takes back every step that may have happened, the last first. */
export async function unwindFlow<Context>(
  flow: Flow<Context>,
  context: Context,
  done: ReadonlyMap<string, StepEvent>,
  journal: Journal,
): Promise<void> {
  for (const step of flow.steps.toReversed()) {
    const event = done.get(step.name);
    if (event === undefined || event === "undone") continue;
    await step.undo?.(context);
    journal.write(step.name, "undone");
  }
}

/** After a crash: does every step that is not known to be done. Steps of such flows are idempotent. */
export async function finishFlow<Context>(
  flow: Flow<Context>,
  context: Context,
  done: ReadonlyMap<string, StepEvent>,
  journal: Journal,
): Promise<void> {
  for (const step of flow.steps) {
    if (done.get(step.name) === "done") continue;
    journal.write(step.name, "started");
    await step.run(context);
    journal.write(step.name, "done");
  }
}
