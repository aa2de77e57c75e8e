/**
 * Says why a command's connection to its guest broke. The connection breaks first, and its error says no more than
 * that. The VMM ends a moment later, and how it ended is the reason.
 */
import { within } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import { panicLine } from "#daemon/view/log-tail.ts";
import type { VmExit } from "#model/vm-handle.ts";

/**
 * The time from the end of the agent's connection to that of the VMM: in it the host's kernel frees the guest's memory.
 */
const END_MS = 3_000;

/** The VM that a command ran in. */
export type EndedVm = {
  readonly name: string;
  /** True if the VM is removed when it ends, and its logs with it. */
  readonly autoRemove: boolean;
  /** Resolves when the VMM has ended. */
  readonly ended: Promise<VmExit>;
  readonly console: string;
};

/** Returns the end of the VM if that is why a command failed; otherwise the error that it failed with. */
export async function explainEnd(thrown: unknown, vm: EndedVm, waitMs = END_MS): Promise<unknown> {
  if (!(thrown instanceof HearthError) || thrown.code !== "agent.unreachable") return thrown;
  const exit = await within(vm.ended, waitMs);
  return exit === undefined ? thrown : (describeEnd(exit, vm) ?? thrown);
}

function describeEnd({ reason }: VmExit, vm: EndedVm): HearthError | undefined {
  const { name, autoRemove } = vm;
  const logs = autoRemove ? "Run it without --rm to keep its logs." : `See \`hearth logs ${name}\`.`;
  switch (reason) {
    case "panicked": {
      const words = panicLine(vm.console);
      const said = words === undefined ? "." : `: ${words}`;
      return new HearthError("vm.panicked", `The guest kernel panicked${said}`, { hint: logs });
    }
    case "rebooted":
      return new HearthError("vm.gone", `${name} was rebooted by its guest.`);
    case "guest":
      return new HearthError("vm.gone", `${name} was powered off by its guest.`);
    case "died":
      return new HearthError("vm.gone", `The VMM of ${name} ended unexpectedly.`, { hint: logs });
    case "asked":
    case "unseen":
      return undefined;
  }
}
