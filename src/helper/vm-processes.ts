/** Which processes belong to a VM: who may not signal them asks the privileged port to end them. */
import { HearthError } from "#base/error.ts";
import { cgroupPids } from "#host/cgroup.ts";
import { isAlive, readEnvironment, readUids } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { LAUNCH_MARK } from "#jail/launch-vmm.ts";
import type { VmId } from "#model/ids.ts";

/** By what the processes of a VM are known. */
export type VmProcesses = {
  readonly id: VmId;
  /** Of the VM alone, if it has one. */
  readonly uid: number | undefined;
  /** Of hearthd, which may signal its own processes anyway. */
  readonly ownerUid: number;
  /** The directory of the VM's cgroup, if it has one. */
  readonly cgroup: string | undefined;
};

/** No grace is as long: ten minutes. */
const GRACE_MAX_MS = 600_000;
const ROOT = 0;
const INIT_PID = 1;

export function isSame(one: ProcessRef, other: ProcessRef): boolean {
  return one.pid === other.pid && one.startTicks === other.startTicks && one.hostBootId === other.hostBootId;
}

/**
 * Decides whether a process is the VM's. It is by its uid, its cgroup, or as one of hearthd's own user. A launcher is
 * root's, and has the VM's id in the environment that an earlier port has started it with.
 */
export function isProcessOf(process: ProcessRef, { id, uid, ownerUid, cgroup }: VmProcesses): boolean {
  const { pid } = process;
  const uids = readUids(pid);
  const inCgroup = cgroup !== undefined && cgroupPids(cgroup).includes(pid);
  const has = (one: number | undefined): boolean => uids.length > 0 && uids.every((each) => each === one);
  const isLauncher = has(ROOT) && readEnvironment(pid)[LAUNCH_MARK] === id;
  const isOwn = pid !== INIT_PID && has(ownerUid);
  // What was read is of this process, as its pid has not been used again.
  return isAlive(process) && (inCgroup || has(uid) || isLauncher || isOwn);
}

/** @throws HearthError `input.invalid` */
export function checkProcess(process: ProcessRef): void {
  const { pid, startTicks, hostBootId } = (process ?? {}) as Partial<ProcessRef>;
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  if (isCount(pid) && isCount(startTicks) && typeof hostBootId === "string") return;
  throw new HearthError(
    "input.invalid",
    "A process must be named by its pid, its start time and the host's boot.",
  );
}

/** @throws HearthError `input.invalid` */
export function checkGrace(graceMs: number): void {
  if (Number.isFinite(graceMs) && graceMs >= 0 && graceMs <= GRACE_MAX_MS) return;
  throw new HearthError("input.invalid", `The grace of a process must be 0 to ${GRACE_MAX_MS} ms.`);
}
