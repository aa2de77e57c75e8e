import { endProcess } from "#host/process-end.ts";
import type { EndSignal } from "#host/process-end.ts";
import type { ProcessRef } from "#host/procfs.ts";

/**
 * Ends a process of the VM with this state directory, as `endProcess` does. The process may have another uid than
 * hearthd, so that ending it takes root.
 */
export type EndVmm = (
  stateDir: string,
  process: ProcessRef,
  graceMs: number,
  signal: AbortSignal,
) => Promise<EndSignal | undefined>;

/** Ends the process with hearthd's own rights. */
export const END_WITH_OWN_RIGHTS: EndVmm = (_stateDir, process, graceMs, signal) =>
  endProcess(process, graceMs, signal);
