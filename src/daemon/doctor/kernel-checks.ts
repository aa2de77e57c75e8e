import type { DoctorCheck } from "#api/wire.ts";
import type { HostFiles } from "#daemon/doctor/host-files.ts";

/**
 * The number of mounts above which starts are slow: a jail begins with a copy of all mounts (Firecracker's jailer.md,
 * without a number). Hearth's choice: hosts without containers have some 30, those with many have thousands.
 */
const MOUNTS_MAX = 500;
/** Errors and worse. Warnings, and messages about each new device, stay away from the console. */
const CONSOLE_LEVEL_MAX = 4;

export function checkMounts(files: HostFiles): DoctorCheck {
  const count = (files.text("/proc/self/mountinfo") ?? "").split("\n").filter((line) => line !== "").length;
  if (count <= MOUNTS_MAX) return { name: "mounts", verdict: "pass", found: String(count) };
  return {
    name: "mounts",
    verdict: "warn",
    found: `${count}: the start of each jail copies all of them`,
    fix: "run Hearth on a host, or in a mount namespace, with fewer mounts",
  };
}

/**
 * Checks the console's log level: the kernel waits for a serial console with every line, and a VM's start logs a few.
 */
export function checkConsoleLog(files: HostFiles): DoctorCheck {
  const name = "console log";
  const level = Number.parseInt(files.text("/proc/sys/kernel/printk") ?? "", 10);
  if (Number.isNaN(level)) return { name, verdict: "pass", found: "unknown" };
  const serial = /^tty(?:S|AMA|HS|LP|PS)\d+/m.exec(files.text("/proc/consoles") ?? "")?.[0];
  if (serial === undefined || level <= CONSOLE_LEVEL_MAX)
    return {
      name,
      verdict: "pass",
      found: `level ${level}${serial === undefined ? ", no serial line" : ""}`,
    };
  return {
    name,
    verdict: "warn",
    found: `level ${level} on ${serial}: VMs start slowly, because the kernel logs to a serial line`,
    fix: "dmesg -n 1, and boot with quiet loglevel=1",
  };
}
