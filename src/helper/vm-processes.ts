/** Decides which processes belong to a VM. If hearthd may not signal them, it asks the privileged port to end them. */
import { HearthError } from "#base/error.ts";
import { cgroupPids } from "#host/cgroup.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcessesOf, isAlive, readEnvironment, readUids, signalProcess } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { LAUNCH_MARK } from "#jail/launch-vmm.ts";
import type { VmId } from "#model/ids.ts";

/** The properties by which the processes of a VM are recognised. */
export type VmProcesses = {
  readonly id: VmId;
  /** The VM's uid, if it has one. */
  readonly uid: number | undefined;
  /** hearthd's uid, which may signal its own processes anyway. */
  readonly ownerUid: number;
  /** The directory of the VM's cgroup, if it has one. */
  readonly cgroup: string | undefined;
};

/** Longer than any grace period: ten minutes. */
const GRACE_MAX_MS = 600_000;
const ROOT = 0;
const INIT_PID = 1;

export function isSame(one: ProcessRef, other: ProcessRef): boolean {
  return one.pid === other.pid && one.startTicks === other.startTicks && one.hostBootId === other.hostBootId;
}

/**
 * Tells whether a process belongs to the VM: by its uid, its cgroup, or as a process of hearthd's own user. A launcher
 * belongs to root, and has the VM's id in the environment that an earlier port has started it with.
 */
export function isProcessOf(process: ProcessRef, { id, uid, ownerUid, cgroup }: VmProcesses): boolean {
  const { pid } = process;
  const uids = readUids(pid);
  const inCgroup = cgroup !== undefined && cgroupPids(cgroup).includes(pid);
  const has = (one: number | undefined): boolean => uids.length > 0 && uids.every((each) => each === one);
  const isLauncher = has(ROOT) && readEnvironment(pid)[LAUNCH_MARK] === id;
  const isOwn = pid !== INIT_PID && has(ownerUid);
  // Checked last: the pid has not been reused, so everything was read from this process.
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

/** Kills the processes of a uid, until none is left: one may have made another before it was killed. */
export async function endProcessesOf(uid: number, signal: AbortSignal): Promise<void> {
  for (let left = findProcessesOf(uid); left.length > 0; left = findProcessesOf(uid)) {
    for (const process of left) signalProcess(process, "SIGKILL");
    for (const process of left) await endProcess(process, 0, signal);
  }
}
