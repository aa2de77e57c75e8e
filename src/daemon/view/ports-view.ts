import type { VmPorts } from "#api/wire.ts";
import type { GuestPorts } from "#guest/agent-client.ts";
import { reachOf } from "#model/guest-port.ts";
import type { VmRecord } from "#model/vm.ts";

/** Shows the ports that a guest lists, with the addresses that lead to them. */
export function portsView({ spec }: Pick<VmRecord, "spec">, { ports, truncated }: GuestPorts): VmPorts {
  return {
    ports: ports.map((one) => ({ ...one, ...reachOf(one, ports, spec.publish ?? []) })),
    truncated,
  };
}
