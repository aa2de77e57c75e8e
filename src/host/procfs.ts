/** Reads processes from /proc. */
import { readFileSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { HearthError } from "#base/error.ts";

/** Identifies one process for ever. A pid alone may be reused. */
export type ProcessRef = { readonly pid: number; readonly startTicks: number; readonly hostBootId: string };

export type ProcessUsage = {
  /** User and system time, in clock ticks. */
  readonly cpuTicks: number;
  readonly rssBytes: number;
  readonly vszBytes: number;
  /** The time since the start of the process. */
  readonly ageMs: number;
};

const PAGE_BYTES = 4096;
/** USER_HZ, which is 100 on every Linux architecture that Hearth runs on. */
export const TICKS_PER_SECOND = 100;

let bootId: string | undefined;

export function hostBootId(): string {
  bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return bootId;
}

/** Returns undefined if the process does not exist, or is only a zombie. */
export function findProcess(pid: number): ProcessRef | undefined {
  const stat = readStat(pid);
  if (stat === undefined || stat.state === "Z" || stat.state === "X") return undefined;
  return { pid, startTicks: stat.startTicks, hostBootId: hostBootId() };
}

export function isAlive(ref: ProcessRef): boolean {
  const now = findProcess(ref.pid);
  return now !== undefined && now.startTicks === ref.startTicks && ref.hostBootId === now.hostBootId;
}

/** Sends a signal. Does nothing if the process is gone or its pid was reused. */
export function signalProcess(ref: ProcessRef, signal: NodeJS.Signals): void {
  if (!isAlive(ref)) return;
  try {
    process.kill(ref.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return;
    throw new HearthError("host.tool_failed", `Cannot send ${signal} to process ${ref.pid}`, {
      cause: error,
    });
  }
}

export function readUsage(ref: ProcessRef): ProcessUsage | undefined {
  const stat = readStat(ref.pid);
  if (stat === undefined || stat.startTicks !== ref.startTicks || ref.hostBootId !== hostBootId())
    return undefined;
  const { cpuTicks, rssPages, vszBytes, startTicks } = stat;
  const uptimeS = Number(readProc("/proc/uptime")?.split(" ", 1)[0]);
  const ageMs = Math.max(0, (uptimeS - startTicks / TICKS_PER_SECOND) * 1000);
  return { cpuTicks, rssBytes: rssPages * PAGE_BYTES, vszBytes, ageMs };
}

/** Returns the arguments of all visible processes, to find those that a crash has left. */
export function listCommands(): { pid: number; argv: string[] }[] {
  return listPids().flatMap((pid) => {
    const text = readProc(`/proc/${pid}/cmdline`);
    return text ? [{ pid, argv: text.replace(/\0$/, "").split("\0") }] : [];
  });
}

/** Returns the real, effective, saved and file system uids of all visible processes, without zombies. */
export function listUids(): ReadonlySet<number> {
  return new Set(uidsByPid().flatMap(({ uids }) => uids));
}

/** Returns the processes with this uid as one of their four. */
export function findProcessesOf(uid: number): ProcessRef[] {
  const pids = uidsByPid().filter(({ uids }) => uids.includes(uid));
  return pids.flatMap(({ pid }) => findProcess(pid) ?? []);
}

/** Returns the name of this process's mount namespace, as `mnt:[4026531841]`. */
export function readMountNamespace(): string {
  return readlinkSync("/proc/self/ns/mnt");
}

/** Tells whether a process that is visible here has this mount namespace. Root sees the namespace of every process. */
export function hasMountNamespace(name: string): boolean {
  return listPids().some((pid) => ifVisible(() => readlinkSync(`/proc/${pid}/ns/mnt`)) === name);
}

/** Returns the children of a process, their children and so on. Processes whose parent has ended are not found. */
export function findDescendants({ pid }: ProcessRef): ProcessRef[] {
  const parents = listPids().flatMap((one) => {
    const stat = readStat(one);
    return stat === undefined ? [] : [{ pid: one, parent: stat.parentPid }];
  });
  const found = new Set([pid]);
  // A child may have a lower pid than its parent, so one pass is not enough.
  for (let before = 0; before !== found.size;) {
    before = found.size;
    for (const one of parents) if (found.has(one.parent)) found.add(one.pid);
  }
  found.delete(pid);
  return [...found].flatMap((one) => findProcess(one) ?? []);
}

/** Returns the real, effective, saved and file system uid of a process; empty if it is gone or a zombie. */
export function readUids(pid: number): number[] {
  const status = readProc(`/proc/${pid}/status`);
  if (status === undefined || /^State:\t[ZX]/m.test(status)) return [];
  const line = /^Uid:\t(.*)$/m.exec(status)?.[1] ?? "";
  return line.split("\t").map(Number);
}

/** Tells whether a process has the root directory of this one; false if it is gone, or not visible to this user. */
export function sharesRoot(pid: number): boolean {
  const theirs = ifVisible(() => statSync(`/proc/${pid}/root/`, { bigint: true }));
  const own = statSync("/", { bigint: true });
  return theirs !== undefined && theirs.dev === own.dev && theirs.ino === own.ino;
}

/** Returns the environment that a process was started with; empty if it is gone, or belongs to another user. */
export function readEnvironment(pid: number): Readonly<Record<string, string>> {
  const entries = (readProc(`/proc/${pid}/environ`) ?? "").split("\0").map((entry) => {
    const at = entry.indexOf("=");
    return [entry.slice(0, at), entry.slice(at + 1)] as const;
  });
  return Object.fromEntries(entries);
}

/** Returns the interfaces in the network namespace of a process, see proc_pid_net(5), if this user may read them. */
export function readNetDev(pid: number): string | undefined {
  return readProc(`/proc/${pid}/net/dev`);
}

function uidsByPid(): { pid: number; uids: number[] }[] {
  return listPids().flatMap((pid) => {
    const uids = readUids(pid);
    return uids.length > 0 ? [{ pid, uids }] : [];
  });
}

function listPids(): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number);
}

type Stat = {
  state: string;
  parentPid: number;
  cpuTicks: number;
  startTicks: number;
  vszBytes: number;
  rssPages: number;
};

/**
 * Parses proc_pid_stat(5). The name in field 2 may contain spaces and brackets, so fields are counted after the last
 * `)`.
 */
function readStat(pid: number): Stat | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const field = (number: number): number => Number(fields[number - 3]);
  return {
    state: fields[0] ?? "",
    parentPid: field(4),
    cpuTicks: field(14) + field(15),
    startTicks: field(22),
    vszBytes: field(23),
    rssPages: field(24),
  };
}

function readProc(path: string): string | undefined {
  return ifVisible(() => readFileSync(path, "utf8"));
}

/** Returns undefined if the process has ended, or is not visible to this user. */
function ifVisible<Value>(read: () => Value): Value | undefined {
  try {
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH" || code === "EACCES") return undefined;
    throw error;
  }
}
