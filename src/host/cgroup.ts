/** Control groups, version 2 (kernel: Documentation/admin-guide/cgroup-v2.rst). Callers choose the directories. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { signalProcess, findProcess } from "#host/procfs.ts";

/** The mount point of the kernel's tree. */
export const CGROUP_ROOT = "/sys/fs/cgroup";

/** The controllers without which a cgroup limits nothing of importance. `io` is used if it exists. */
const NEEDED = ["cpu", "memory", "pids"] as const;
const OPTIONAL = ["io"] as const;

export type CgroupLimits = {
  /** A whole number: fractions of a CPU are not needed. */
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Processes and threads. */
  readonly tasks: number;
};

const CPU_PERIOD_US = 100_000;
const POLL_FIRST_MS = 1;
const POLL_MAX_MS = 50;

/** Returns why limits cannot be set below `root`, as a clause of a sentence, or undefined if they can. */
export function missingCgroups(root: string): string | undefined {
  const controllers = readWords(join(root, "cgroup.controllers"));
  if (controllers === undefined) return "this host has no cgroup v2";
  const missing = NEEDED.filter((name) => !controllers.includes(name));
  if (missing.length === 0) return undefined;
  return `cgroup v2 of this host lacks the controllers: ${missing.join(", ")}`;
}

/**
 * Makes `parent` below `root`, and enables the controllers for its children. Idempotent.
 * @throws HearthError `host.tool_failed` if the kernel refuses, as in a container with processes at its root
 */
export function prepareCgroups(root: string, parent: string): void {
  const controllers = readWords(join(root, "cgroup.controllers")) ?? [];
  const wanted = [...NEEDED, ...OPTIONAL].filter((name) => controllers.includes(name));
  const dir = join(root, parent);
  mkdirSync(dir, { recursive: true });
  for (const level of [root, dir]) {
    const control = join(level, "cgroup.subtree_control");
    const on = readWords(control) ?? [];
    const words = wanted.filter((name) => !on.includes(name)).map((name) => `+${name}`);
    if (words.length > 0) set(control, words.join(" "));
  }
}

/** Makes the cgroup with its limits, or sets the limits of an existing one. Idempotent. */
export function makeCgroup(dir: string, limits: CgroupLimits): void {
  mkdirSync(dir, { recursive: true });
  set(join(dir, "cpu.max"), `${limits.cpus * CPU_PERIOD_US} ${CPU_PERIOD_US}`);
  set(join(dir, "memory.max"), String(limits.memoryBytes));
  set(join(dir, "pids.max"), String(limits.tasks));
  // Guest memory must never be swapped to a disk. The file is missing if the kernel does not account for swap.
  const swapMax = join(dir, "memory.swap.max");
  if (existsSync(swapMax)) set(swapMax, "0");
  // The cgroup contains one VMM: killing a part of it would be useless.
  if (existsSync(join(dir, "memory.oom.group"))) set(join(dir, "memory.oom.group"), "1");
}

/** Moves a process with all its threads into the cgroup. The processes that it starts later are in it, too. */
export function joinCgroup(dir: string, pid: number): void {
  set(join(dir, "cgroup.procs"), String(pid));
}

export function cgroupPids(dir: string): number[] {
  return (readWords(join(dir, "cgroup.procs")) ?? []).map(Number);
}

/** Kills all processes in the cgroup and in the cgroups below it, and removes them. Idempotent. */
export async function removeCgroup(dir: string, signal: AbortSignal): Promise<void> {
  if (!existsSync(dir)) return;
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeCgroup(join(dir, entry.name), signal);
  }
  killMembers(dir);
  // A killed process stays in its cgroup until its memory is freed.
  for (let waitMs = POLL_FIRST_MS; !removed(dir); waitMs = Math.min(waitMs * 2, POLL_MAX_MS)) {
    signal.throwIfAborted();
    await delay(waitMs);
  }
}

function killMembers(dir: string): void {
  if (existsSync(join(dir, "cgroup.kill"))) return set(join(dir, "cgroup.kill"), "1"); // Linux 5.14
  for (const pid of cgroupPids(dir)) {
    const member = findProcess(pid);
    if (member !== undefined) signalProcess(member, "SIGKILL");
  }
}

function removed(dir: string): boolean {
  try {
    rmdirSync(dir);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return true;
    if (code === "EBUSY") return false;
    throw error;
  }
}

function set(file: string, value: string): void {
  try {
    writeFileSync(file, value, { flag: "r+" });
  } catch (cause) {
    throw new HearthError(
      "host.tool_failed",
      `The kernel refused the value ${JSON.stringify(value)} for ${file}`,
      {
        hint: "Check the cgroup and its parents with `systemd-cgls`, or use --no-cgroup.",
        cause,
      },
    );
  }
}

function readWords(file: string): string[] | undefined {
  try {
    return readFileSync(file, "utf8").split(/\s+/).filter(Boolean);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
