import { findSandboxHost } from "#host/sandbox-host.ts";
import type { SandboxHost } from "#host/sandbox-host.ts";

const VMMS = { subject: "VMs", otherwise: "or create the VM without isolation: --no-jail --no-pid-ns" };

/** Finds the host's sandbox programs for VMMs. @throws as `findSandboxHost`, with the flags that do without */
export function findJailHost(signal: AbortSignal): Promise<SandboxHost> {
  return findSandboxHost(VMMS, signal);
}
