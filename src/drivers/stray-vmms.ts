import { endProcess, findProcessesNaming } from "#host/process-end.ts";
import type { ProcessRef } from "#host/procfs.ts";

/** The programs of all drivers, and those that launch them: the VMM may not have been executed yet. */
const VMMS = /^(qemu(-|$)|firecracker|jailer$|bwrap$|setpriv$|prlimit$)/;

/**
 * VMMs whose command line names a file in `runDir`. A hearthd that was killed between starting a VMM and
 * journalling its pid finds it with this. L1.
 */
export function findStrayVmms(runDir: string): ProcessRef[] {
  // QEMU doubles commas in the values of its options.
  return findProcessesNaming([runDir, runDir.replaceAll(",", ",,")], VMMS);
}

/** Resolves when the process is gone. Idempotent. */
export async function killStrayVmm(stray: ProcessRef, signal: AbortSignal): Promise<void> {
  await endProcess(stray, 0, signal);
}
