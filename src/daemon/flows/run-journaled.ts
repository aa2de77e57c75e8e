import { runFlow } from "#daemon/flows/flow.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { Call } from "#daemon/vms.ts";
import { operationIdFrom } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";

/** Runs a flow with its journal and its lines in the log. `plan` is what the flow needs after a crash. */
export async function runJournaled<Context>(
  host: Host,
  flow: Flow<Context>,
  id: VmId,
  plan: unknown,
  context: Context,
  call: Pick<Call, "operation">,
): Promise<void> {
  const log = host.log.child({ operation: call.operation });
  const startedAt = performance.now();
  log.event("flow.started", { flow: flow.kind, vm: id });
  using journal = host.journals.open(operationIdFrom(host.random(6)), flow.kind, id, plan);
  try {
    await runFlow(flow, context, journal, log);
  } catch (error) {
    log.event("flow.failed", { flow: flow.kind, vm: id, error });
    throw error;
  }
  log.event("flow.done", { flow: flow.kind, vm: id, tookMs: Math.round(performance.now() - startedAt) });
}
