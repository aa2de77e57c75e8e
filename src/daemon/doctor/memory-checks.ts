import { basename } from "node:path";
import type { DoctorCheck } from "#api/wire.ts";
import type { HostFiles } from "#daemon/doctor/host-files.ts";

/** Checks page sharing: by the time that a write takes, a guest can find out what is in the memory of another one. */
export function checkKsm(files: HostFiles): DoctorCheck {
  const run = files.text("/sys/kernel/mm/ksm/run");
  if (run === undefined) return { name: "ksm", verdict: "pass", found: "not in this kernel" };
  // 2 is off as well, with all pages unshared again.
  if (run !== "1") return { name: "ksm", verdict: "pass", found: "off" };
  return {
    name: "ksm",
    verdict: "warn",
    found: "on: guests can find out what is in the memory of other guests",
    fix: "echo 2 > /sys/kernel/mm/ksm/run, and disable ksmtuned",
  };
}

/** Checks swap: the memory of a guest must not be found on a disk later. */
export function checkSwap(files: HostFiles): DoctorCheck {
  const lines = (files.text("/proc/swaps") ?? "").split("\n").slice(1);
  const devices = lines.map((line) => line.split(/\s+/)[0] ?? "").filter((device) => device !== "");
  if (devices.length === 0) return { name: "swap", verdict: "pass", found: "off" };
  const open = devices.filter((device) => !isSafeSwap(files, device));
  if (open.length === 0)
    return { name: "swap", verdict: "pass", found: `encrypted or in memory: ${devices.join(", ")}` };
  return {
    name: "swap",
    verdict: "warn",
    found: `guest memory can be written to an unencrypted disk: ${open.join(", ")}`,
    fix: "swapoff -a and remove it from /etc/fstab, or put it on dm-crypt",
  };
}

function isSafeSwap(files: HostFiles, device: string): boolean {
  const name = basename(device);
  // Compressed memory, unless it writes to a disk what it has no room for.
  if (/^zram\d+$/.test(name)) return (files.text(`/sys/block/${name}/backing_dev`) ?? "none") === "none";
  return files.text(`/sys/block/${name}/dm/uuid`)?.startsWith("CRYPT-") ?? false;
}
