import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { invariant } from "#base/error.ts";

/**
 * Returns how many bytes of memory new processes can have without swap: the kernel's estimate for the host, or less if
 * a cgroup around this process has a limit (cgroup v2, for instance a container's). The cgroup's page cache counts as
 * free, as in the kernel's estimate.
 * @param root replaces `/` in tests
 */
export function availableMemoryBytes(root = "/"): number {
  const meminfo = readFileSync(join(root, "proc/meminfo"), "utf8");
  const kibibytes = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  invariant(kibibytes, "/proc/meminfo has MemAvailable");
  const cgroup = readText(join(root, "proc/self/cgroup"));
  const path = /^0::(\/.*)$/m.exec(cgroup ?? "")?.[1];
  const limits = path === undefined ? [] : leftInCgroups(join(root, "sys/fs/cgroup"), path);
  return Math.max(0, Math.min(Number(kibibytes) * 1024, ...limits));
}

/** Returns the free memory of each limited cgroup from `path` up to the root of the hierarchy. */
function leftInCgroups(top: string, path: string): number[] {
  const left: number[] = [];
  for (let at = path; at !== "/"; at = dirname(at)) {
    const limit = Number(readText(join(top, at, "memory.max"))?.trim());
    if (!Number.isFinite(limit)) continue; // "max", or the memory controller is not enabled here.
    const used = Number(readText(join(top, at, "memory.current")) ?? 0);
    const cached = /^inactive_file (\d+)$/m.exec(readText(join(top, at, "memory.stat")) ?? "")?.[1];
    left.push(limit - used + Number(cached ?? 0));
  }
  return left;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
