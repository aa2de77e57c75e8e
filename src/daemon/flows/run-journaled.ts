import { runFlow, uncleanError } from "#daemon/flows/flow.ts";
import type { Flow, UndoFailure } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { operationIdFrom } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";

/**
 * Runs a flow with its journal and its lines in the log. `plan` is stored, and is what the flow needs after a crash.
 *
 * A flow whose steps are all done has succeeded. If its journal cannot be closed then, that is logged, and the next
 * hearthd closes it. The journal of a flow that could not be undone stays open on purpose.
 * @throws HearthError `vm.unclean` when it could not be undone, with the flow's error as the cause
 */
export async function runJournaled<Context extends Left, Left>(
  host: Host,
  flow: Flow<Context, Left>,
  id: VmId,
  plan: unknown,
  context: Context,
  call: Pick<Call, "operation">,
): Promise<void> {
  const log = host.log.child({ operation: call.operation });
  const startedAt = performance.now();
  log.event("flow.started", { flow: flow.kind, vm: id });
  const journal = host.journals.open(operationIdFrom(host.random(6)), flow.kind, id, plan);
  const close = (): void => {
    try {
      journal[Symbol.dispose]();
    } catch (error) {
      log.event("flow.journal_left", { flow: flow.kind, error });
    }
  };
  const left: UndoFailure[] = [];
  try {
    await runFlow(flow, context, journal, log, left);
  } catch (error) {
    log.event("flow.failed", { flow: flow.kind, vm: id, error });
    if (left.length > 0) throw uncleanError(flow.kind, left, error);
    // A flow that is finished after a crash keeps its journal: the next hearthd finishes it, unless a user does before.
    if (flow.afterCrash === "unwind") close();
    throw error;
  }
  close();
  log.event("flow.done", { flow: flow.kind, vm: id, tookMs: Math.round(performance.now() - startedAt) });
}
