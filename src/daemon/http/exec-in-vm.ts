import { relayExec } from "#daemon/http/exec-relay.ts";
import type { ExitMessage } from "#daemon/http/exec-relay.ts";
import type { ExecSession } from "#daemon/http/exec-sockets.ts";
import { vmPaths } from "#daemon/store/paths.ts";
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
  const { vm, guest, ended } = await vms.guest(nameOrId, "exec", signal);
  const id = Buffer.from(host.random(8)).toString("hex");
  try {
    return await relayExec(socket, input, guest, spec, id, signal);
  } catch (error) {
    signal.throwIfAborted();
    const { autoRemove } = vm.spec;
    const { console } = vmPaths(host.dirs, vm.id);
    throw await explainEnd(error, { name: vm.name, autoRemove, ended, console });
  }
}
