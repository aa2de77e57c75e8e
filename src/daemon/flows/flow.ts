/** Runs flows, which are lists of steps with undo; undoes them, or finishes them after a crash. */
import { errorChain, HearthError } from "#base/error.ts";
import { Undo } from "#base/undo.ts";
import type { Log } from "#base/log.ts";
import type { FlowKind, Journal, StepEvent } from "#daemon/store/journal.ts";

/** A step of a flow. `Left` is what is known after a crash. The undo gets no more than that, before a crash either. */
export type Step<Context extends Left, Left = Context> = {
  readonly name: string;
  run(context: Context): Promise<void>;
  /**
   * Undoes the step. Idempotent, and safe when `run` got only half way or never began. Missing if nothing is to be
   * undone.
   */
  undo?(context: Left): Promise<void>;
  /** The undo waits until all later steps are undone, because it removes the record that there is something to undo. */
  readonly undoLast?: true;
  /** The step ends the journal itself, in the transaction of its commit: from there on, the flow has succeeded. */
  readonly endsJournal?: true;
};

export type Flow<Context extends Left, Left = Context> = {
  readonly kind: FlowKind;
  /** The way to recover a flow after a crash: undo the steps that began, or run those that are left. */
  readonly afterCrash: "unwind" | "finish";
  readonly steps: readonly Step<Context, Left>[];
};

/** A step whose undo failed. */
export type UndoFailure = { readonly step: string; readonly error: unknown };

/**
 * Runs all steps. If one fails, undoes it and those before it, and throws its error. An undo that fails is added to
 * `left`, and the others still run.
 */
export async function runFlow<Context extends Left, Left>(
  flow: Flow<Context, Left>,
  context: Context,
  journal: Journal,
  log: Log,
  left: UndoFailure[],
): Promise<void> {
  const failed = (step: string, error: unknown): void => {
    left.push({ step, error });
    log.event("flow.undo_failed", { flow: flow.kind, step, error });
  };
  await using undo = new Undo(failed);
  for (const step of flow.steps) {
    journal.write(step.name, "started");
    if (flow.afterCrash === "unwind") {
      undo.add(step.name, async () => {
        if (step.undoLast && left.length > 0) return;
        await step.undo?.(context);
        journal.write(step.name, "undone");
      });
    }
    const startedAt = performance.now();
    await step.run(context);
    if (step.endsJournal) undo.keep();
    try {
      journal.write(step.name, "done");
    } catch (error) {
      if (!step.endsJournal) throw error;
      log.event("flow.journal_left", { flow: flow.kind, error });
    }
    log.event("flow.step", {
      flow: flow.kind,
      step: step.name,
      tookMs: Math.round(performance.now() - startedAt),
    });
  }
  undo.keep();
}

/**
 * Undoes, after a crash, every step that may have run, the last one first. Continues after an undo that failed.
 * @returns the steps whose undo failed
 */
export async function unwindFlow<Context extends Left, Left>(
  flow: Flow<Context, Left>,
  left: Left,
  done: ReadonlyMap<string, StepEvent>,
  journal: Journal,
  log: Log,
): Promise<readonly UndoFailure[]> {
  const failures: UndoFailure[] = [];
  for (const step of flow.steps.toReversed()) {
    const event = done.get(step.name);
    if (event === undefined || event === "undone") continue;
    if (step.undoLast && failures.length > 0) continue;
    try {
      await step.undo?.(left);
      journal.write(step.name, "undone");
    } catch (error) {
      failures.push({ step: step.name, error });
      log.event("flow.undo_failed", { flow: flow.kind, step: step.name, error });
    }
  }
  return failures;
}

/** Names the steps that could not be undone. The journal of the flow stays open, so that the undo is tried again. */
export function uncleanError(kind: FlowKind, left: readonly UndoFailure[], cause?: unknown): HearthError {
  const steps = left.map(({ step, error }) => `"${step}" (${errorChain(error)})`).join(", ");
  return new HearthError("vm.unclean", `Cannot undo a ${kind} that failed: ${steps}.`, {
    hint: "The next start of the VM, or of hearthd, tries again. `hearth daemon logs` has the details.",
    cause,
  });
}

/** Runs, after a crash, every step that is not known to be done. Steps of such flows are idempotent. */
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
