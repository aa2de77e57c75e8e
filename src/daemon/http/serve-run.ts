import { failAfter } from "#base/clean-up.ts";
import { errorBody, HearthError } from "#base/error.ts";
import { runSchema } from "#api/exec-schemas.ts";
import type { ExitMessage } from "#daemon/http/exec-relay.ts";
import { parseFirst, sendMessage, toExecSpec } from "#daemon/http/exec-relay.ts";
import { execInVm } from "#daemon/http/exec-in-vm.ts";
import type { ExecSession } from "#daemon/http/exec-sockets.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { DEFAULTS } from "#model/defaults.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** The time for a VM that outlives its command to flush; less when hearthd stops, which waits for it. */
const STOP_TIMEOUT_MS = { usual: DEFAULTS.stopTimeoutMs, stopping: 4_000 };
const NOTHING_RUN: ExitMessage = { type: "exit", code: 0, timedOut: false };

/**
 * Serves `/v1/run`: create → start → exec → stop or remove, as one request. A client that leaves at any moment leaves
 * the same state as one that waits, and so does a hearthd that stops.
 */
export async function serveRun(session: ExecSession): Promise<void> {
  const { daemon, socket, input, request } = session;
  const run = parseFirst(runSchema, await input.first(request.signal));
  const spec = toExecSpec(run.exec);
  if (!spec.detach && (run.vm.restart ?? DEFAULTS.restart) !== "no")
    throw new HearthError(
      "input.invalid",
      `restart: ${run.vm.restart} needs a VM that outlives its command.`,
      {
        hint: "Add -d, or use hearth create.",
      },
    );
  const call: Call = {
    ...request,
    onProgress: (progress) => {
      request.onProgress(progress);
      sendMessage(socket, { type: "progress", progress });
    },
  };
  const ready = await daemon.pools.take(run.vm, !spec.detach, call);
  const vm = ready ?? (await daemon.vms.create(run.vm, !spec.detach, call, true));
  sendMessage(socket, { type: "vm", id: vm.id, name: vm.name });
  let exit: ExitMessage | undefined;
  try {
    const running = ready ?? (await daemon.vms.start(vm.id, call));
    const startStages = handleOf(running.state)?.startStages;
    sendMessage(socket, { type: "vm", id: vm.id, name: vm.name, startStages });
    if (!spec.detach) exit = await execInVm(session, vm.id, spec);
  } catch (error) {
    return failAfter(error, () => endOfRun(session, vm, call));
  }
  if (exit !== undefined) await endAfterExit(session, vm, call);
  // Detached: the VM does not end with its command.
  else if (spec.argv.length > 0) exit = await execInVm(session, vm.id, spec);
  sendMessage(socket, exit ?? NOTHING_RUN);
}

/**
 * Ends the VM after its command. If that fails, the client gets the exit code all the same, with a note about the VM.
 */
async function endAfterExit(session: ExecSession, vm: VmRecord, call: Call): Promise<void> {
  try {
    await endOfRun(session, vm, call);
  } catch (error) {
    const { host } = session.daemon;
    host.log.child({ vm: vm.id }).event("vm.run_not_ended", { error });
    const text = `Cannot stop ${vm.name}: ${errorBody(error).message}`;
    call.onProgress({ stage: "stop", text });
  }
}

/** Ends the VM, because its command was its purpose. Also when the client has gone, so without the client's signal. */
async function endOfRun({ daemon }: ExecSession, vm: VmRecord, call: Call): Promise<void> {
  const { host, vms, ending } = daemon;
  const lasting = { ...call, signal: new AbortController().signal };
  if (host.store.findVm(vm.id) === undefined) return; // The guest powered off, and the VM was removed.
  if (vm.spec.autoRemove) return vms.remove(vm.id, true, lasting);
  const timeoutMs = ending.error === undefined ? STOP_TIMEOUT_MS.usual : STOP_TIMEOUT_MS.stopping;
  // Waits for the action under way, such as a snapshot.
  await vms.stop(vm.id, { mode: "graceful", timeoutMs }, lasting, "wait");
  host.store.keepVm(vm.id);
}
