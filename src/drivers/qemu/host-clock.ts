import { readFileSync } from "node:fs";

/**
 * Returns the rate of the host's time stamp counter, near enough for a guest's first delay loops: in emulation the
 * guest's counter is the host's. Undefined when nothing in /proc or /sys says it.
 */
export function readTscKhz(): number | undefined {
  const base = readText("/sys/devices/system/cpu/cpu0/cpufreq/base_frequency");
  return parseTscKhz(base, readText("/proc/cpuinfo") ?? "");
}

/**
 * Reads the rate from `base`, which is cpufreq's base_frequency in kHz, or from /proc/cpuinfo. Both "base_frequency"
 * and "bogomips" are constant; x86 kernels compute bogomips as twice the counter's rate. "cpu MHz" is the present speed
 * with cpufreq, and another one a minute later.
 */
export function parseTscKhz(base: string | undefined, cpuinfo: string): number | undefined {
  if (base !== undefined && /^\d+\s*$/.test(base)) return Number(base);
  const nominal = /^model name\s*:.*@ ([\d.]+)GHz/m.exec(cpuinfo)?.[1];
  if (nominal !== undefined) return Math.round(Number(nominal) * 1_000_000);
  const bogomips = Number(/^bogomips\s*:\s*([\d.]+)/m.exec(cpuinfo)?.[1] ?? 0);
  if (bogomips > 0) return Math.round(bogomips * 500);
  const mhz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(cpuinfo)?.[1];
  return mhz === undefined || Number(mhz) === 0 ? undefined : Math.round(Number(mhz) * 1_000);
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined; // This host has no cpufreq.
    throw error;
  }
}
