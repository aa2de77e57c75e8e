import type { Dial } from "#api/wire.ts";
import { relayDial, relayExec } from "#daemon/http/exec-relay.ts";
import type { ExitMessage } from "#daemon/http/exec-relay.ts";
import type { Host } from "#daemon/host.ts";
import type { ExecSession } from "#daemon/http/exec-sockets.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { Vms } from "#daemon/vm/vms.ts";
import { explainEnd } from "#daemon/vm/explain-end.ts";
import type { ExecSpec } from "#model/exec-spec.ts";

/**
 * Runs one command for a client.
 * @throws HearthError `vm.panicked` or `vm.gone` when the VM ended meanwhile by itself, and what `relayExec` throws
 */
export async function execInVm(
  { daemon, socket, input, request: { signal } }: ExecSession,
  nameOrId: string,
  spec: ExecSpec,
): Promise<ExitMessage> {
  const { host, vms } = daemon;
  const found = await vms.guest(nameOrId, "exec", signal);
  const id = Buffer.from(host.random(8)).toString("hex");
  return orExplain(host, found, signal, () => relayExec(socket, input, found.guest, spec, id, signal));
}

/** Connects a client to a port of the guest, until both ends have ended. @throws HearthError as `execInVm` */
export async function dialInVm(
  { daemon, socket, input, request: { signal } }: ExecSession,
  nameOrId: string,
  dial: Dial,
): Promise<void> {
  const { host, vms } = daemon;
  const found = await vms.guest(nameOrId, "exec", signal);
  using _use = vms.uses.begin(found.vm.id);
  await orExplain(host, found, signal, () => relayDial(socket, input, found.guest, dial, signal));
}

/** Does work in a guest. An error that is the end of the VM says how it ended. */
async function orExplain<Result>(
  host: Host,
  { vm, ended }: Awaited<ReturnType<Vms["guest"]>>,
  signal: AbortSignal,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    const { autoRemove } = vm.spec;
    const { console } = vmPaths(host.dirs, vm.id);
    throw await explainEnd(error, { name: vm.name, autoRemove, ended, console });
  }
}
