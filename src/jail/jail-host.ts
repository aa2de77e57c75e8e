import { findSandboxHost } from "#host/sandbox-host.ts";
import type { SandboxHost } from "#host/sandbox-host.ts";

const VMMS = { subject: "VMs", otherwise: "or make the VM without isolation: --no-jail --no-pid-ns" };

/** What the VMMs of this host are confined with. @throws as `findSandboxHost`, with the flags that do without */
export function findJailHost(signal: AbortSignal): Promise<SandboxHost> {
  return findSandboxHost(VMMS, signal);
}
