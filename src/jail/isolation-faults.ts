/**
 * Compares the isolation that a VMM was started with to what the kernel enforces on it, according to /proc and the
 * cgroup tree. The programs that start a VMM are not trusted: Firecracker's jailer, for instance, may move it to
 * another cgroup.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { cgroupPids } from "#host/cgroup.ts";
import { excludeMemoryFromDumps } from "#host/core-dumps.ts";
import { isAlive } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import type { LaunchNetwork } from "#jail/vmm-launch.ts";
import type { IsolationInForce } from "#model/isolation.ts";

/** Namespaces that every jail has, whatever was chosen for pids and the network. */
const JAIL_NAMESPACES = ["mnt", "ipc", "uts", "cgroup"] as const;
/** SECCOMP_MODE_FILTER in /proc/PID/status. */
const FILTERED = "2";
/** PF_USER_WORKER and PF_IO_WORKER of include/linux/sched.h. */
const KERNEL_WORKER = 0x4000 | 0x10;
const NO_CAPABILITIES = /^0+$/;

/** The part that is compared: everything but the sentences. */
export type WantedIsolation = Omit<IsolationInForce, "gaps" | "network"> & {
  readonly network: LaunchNetwork;
};

/** True when the VMM has loaded its system call filter by now. */
export type FaultOptions = { readonly seccomp: boolean };

/**
 * Leaves the VMM's memory out of core dumps, and returns its `isolationFaults`. To be called when the VMM answers, and
 * before the guest runs. Needs the rights of root or of the VMM's uid.
 */
export function readBackIsolation(vmm: ProcessRef, wanted: WantedIsolation, options: FaultOptions): string[] {
  excludeMemoryFromDumps(vmm);
  return isolationFaults(vmm, wanted, options);
}

/** Returns the network namespace that a VMM is in: without a jail none is made, but an existing one can be joined. */
export function networkInForce<Network extends LaunchNetwork>(
  jail: boolean,
  network: Network,
): Network | { readonly kind: "host" } {
  return jail || network.kind === "join" ? network : { kind: "host" };
}

/**
 * Returns clauses such as "it is in the cgroup /firecracker, not in /hearth/vm-…"; none when the isolation is complete,
 * or the VMM has ended meanwhile.
 * @param seccomp false while the VMM has not loaded its filter yet
 * @throws the system's error when /proc cannot be read
 */
export function isolationFaults(
  vmm: ProcessRef,
  wanted: WantedIsolation,
  { seccomp }: FaultOptions,
): string[] {
  try {
    const faults = [
      ...cgroupFaults(vmm.pid, wanted),
      ...idFaults(vmm.pid, wanted),
      ...rightFaults(vmm.pid, wanted),
      ...namespaceFaults(vmm.pid, wanted),
      ...(seccomp && wanted.seccomp ? seccompFaults(vmm.pid) : []),
    ];
    return isAlive(vmm) ? faults : [];
  } catch (error) {
    if (!isAlive(vmm)) return [];
    throw error;
  }
}

/** Reads the members of the cgroup, since the path in /proc depends on the reader's cgroup namespace. */
function cgroupFaults(pid: number, { cgroup }: WantedIsolation): string[] {
  if (cgroup === undefined || cgroupPids(cgroup).includes(pid)) return [];
  const line = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, "utf8"));
  return [`it is in the cgroup ${line?.[1] ?? "/"}, not in ${cgroup}`];
}

function idFaults(pid: number, { uid }: WantedIsolation): string[] {
  if (uid === undefined) return [];
  return (["Uid", "Gid"] as const).flatMap((name) => {
    const ids = statusField(`/proc/${pid}/status`, name).split(/\s+/);
    return ids.every((id) => id === String(uid)) ? [] : [`its ${name} is ${ids.join(" ")}, not ${uid}`];
  });
}

function rightFaults(pid: number, { jail }: WantedIsolation): string[] {
  if (!jail) return [];
  const status = `/proc/${pid}/status`;
  const waiting = ["CapPrm", "CapEff"].filter((name) => !NO_CAPABILITIES.test(statusField(status, name)));
  return [
    ...waiting.map((name) => `it has capabilities (${name} ${statusField(status, name)})`),
    ...(statusField(status, "NoNewPrivs") === "1" ? [] : ["it may gain privileges (NoNewPrivs is not set)"]),
  ];
}

function namespaceFaults(pid: number, wanted: WantedIsolation): string[] {
  const own = [
    ...(wanted.jail ? JAIL_NAMESPACES : []),
    ...(wanted.pidNamespace ? ["pid"] : []),
    ...(wanted.network.kind === "own" ? ["net"] : []),
  ];
  const of = (process: string, name: string): string => readlinkSync(`/proc/${process}/ns/${name}`);
  const shared = own.filter((name) => of(String(pid), name) === of("self", name));
  return [
    ...shared.map((name) => `it shares the ${name} namespace of hearthd`),
    ...joinFaults(pid, wanted.network),
  ];
}

function joinFaults(pid: number, network: LaunchNetwork): string[] {
  if (network.kind !== "join") return [];
  const { path, owner } = network;
  const faults = isNamespace(pid, "net", path) ? [] : [`it is not in the network namespace ${path}`];
  if (owner === undefined || !isNamespace(pid, "user", owner.path)) return faults;
  return [...faults, "it is in the user namespace of its network, which it could change"];
}

/** Compares the inode of the namespace's file, which is the same wherever it is seen. */
function isNamespace(pid: number, name: string, path: string): boolean {
  const [is, other] = [`/proc/${pid}/ns/${name}`, path].map((file) => statSync(file, { bigint: true }));
  return is?.ino === other?.ino && is?.dev === other?.dev;
}

function seccompFaults(pid: number): string[] {
  const threads = readdirSync(`/proc/${pid}/task`).filter((thread) => runsProgram(pid, thread));
  const open = threads.filter((thread) => {
    const status = readThread(pid, thread, "status");
    return status !== undefined && fieldOf(status, "Seccomp") !== FILTERED;
  });
  return open.length === 0
    ? []
    : [`${open.length} of its ${threads.length} threads may make any system call`];
}

/** Returns false for a thread that the kernel has made in the process, as KVM does: it makes no system calls. */
function runsProgram(pid: number, thread: string): boolean {
  const stat = readThread(pid, thread, "stat") ?? "";
  // proc_pid_stat(5), field 9; the name in field 2 may contain spaces.
  const flags = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[6]);
  return (flags & KERNEL_WORKER) === 0;
}

/** Returns undefined for a thread that has ended meanwhile. */
function readThread(pid: number, thread: string, file: "stat" | "status"): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/task/${thread}/${file}`, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

function statusField(file: string, name: string): string {
  return fieldOf(readFileSync(file, "utf8"), name);
}

function fieldOf(status: string, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1]?.trim() ?? "";
}
