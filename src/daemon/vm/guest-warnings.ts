import type { Host } from "#daemon/host.ts";
import type { VmId } from "#model/ids.ts";

/** Logs what a guest could not do of its identity. `hearth show` has it from the VM's handle. */
export function logWarnings(host: Host, id: VmId, warnings: readonly string[]): void {
  for (const warning of warnings) host.log.child({ vm: id }).event("vm.identity_warned", { warning });
}
