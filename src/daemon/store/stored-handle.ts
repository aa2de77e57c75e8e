import type { IsolationInForce } from "#model/isolation.ts";
import type { ProcessId, VmHandle } from "#model/vm-handle.ts";
import type { VmState } from "#model/vm-state.ts";

/** A handle as an earlier hearthd has stored it. */
type OlderHandle = Omit<VmHandle, "processes" | "isolation"> & {
  readonly processes?: VmHandle["processes"];
  /** Written before a VM could have more than one process. */
  readonly process?: ProcessId;
  readonly isolation?: Omit<IsolationInForce, "network"> & {
    readonly network?: IsolationInForce["network"];
    /** Written before a namespace could be joined. */
    readonly networkNamespace?: boolean;
  };
};

/**
 * Reads a stored state. Its handle, if it has one, may be that of an earlier hearthd, whose VM runs on and is adopted.
 * @throws Error where the handle names no process
 */
export function readStoredState(stored: VmState): VmState {
  return "handle" in stored ? { ...stored, handle: readHandle(stored.handle) } : stored;
}

function readHandle(stored: OlderHandle): VmHandle {
  const { process, processes = process && [process], isolation, ...handle } = stored;
  if (processes === undefined) throw new Error("its handle names no process");
  return { ...handle, processes, isolation: isolation && readIsolation(isolation) };
}

function readIsolation(stored: NonNullable<OlderHandle["isolation"]>): IsolationInForce {
  const { networkNamespace, network = { kind: networkNamespace ? "own" : "host" }, ...isolation } = stored;
  return { ...isolation, network };
}
