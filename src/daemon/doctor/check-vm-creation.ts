import type { DoctorCheck } from "#api/wire.ts";
import type { HostFiles } from "#daemon/doctor/host-files.ts";

const NX_HUGE_PAGES = "/sys/module/kvm/parameters/nx_huge_pages";

type Cgroup2 = { readonly mountPoint: string; readonly options: readonly string[] };

/**
 * Checks what makes KVM_CREATE_VM slow: from Linux 6.1 on it waits for the lock of all cgroups, because of a thread
 * that only the fix of iTLB multihit needs (Firecracker's prod-host-setup.md).
 */
export function checkVmCreation(files: HostFiles): DoctorCheck {
  const name = "vm creation";
  const pass = (found: string): DoctorCheck => ({ name, verdict: "pass", found });
  const nx = files.text(NX_HUGE_PAGES);
  if (nx === undefined) return pass("KVM is not loaded, or needs no change");
  const isAffected = files.text("/sys/devices/system/cpu/vulnerabilities/itlb_multihit") !== "Not affected";
  if (nx === "never") {
    if (!isAffected) return pass("kvm.nx_huge_pages=never");
    return {
      name,
      verdict: "warn",
      found: "kvm.nx_huge_pages=never, on a CPU with the vulnerability that it leaves open",
      fix: "load kvm without nx_huge_pages=never; use favordynmods instead",
    };
  }
  if (isBefore61(files.text("/proc/sys/kernel/osrelease") ?? "")) return pass("as fast as before Linux 6.1");
  const favors =
    findCgroup2(files)?.options.includes("favordynmods") === true ||
    /\bcgroup_favordynmods=(?:true|1|y|on)\b/.test(files.text("/proc/cmdline") ?? "");
  if (favors) return pass("favordynmods");
  return {
    name,
    verdict: "warn",
    found: "slower since Linux 6.1: neither nx_huge_pages=never nor favordynmods",
    fix: isAffected
      ? "mount -o remount,favordynmods /sys/fs/cgroup"
      : "echo options kvm nx_huge_pages=never > /etc/modprobe.d/kvm.conf; reboot",
  };
}

/**
 * Finds the mount of cgroup v2. proc_pid_mountinfo(5): the file system's type and its own options follow a lone "-".
 */
function findCgroup2(files: HostFiles): Cgroup2 | undefined {
  const mounts = (files.text("/proc/self/mountinfo") ?? "").split("\n").flatMap((line): Cgroup2[] => {
    const fields = line.split(" ");
    const rest = fields.slice(fields.indexOf("-") + 1);
    if (rest[0] !== "cgroup2") return [];
    return [{ mountPoint: fields[4] ?? "", options: (rest[2] ?? "").split(",") }];
  });
  // A hybrid host mounts one without controllers beside those of version 1.
  return mounts.find(({ mountPoint }) => mountPoint === "/sys/fs/cgroup") ?? mounts[0];
}

function isBefore61(release: string): boolean {
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10));
  return major < 6 || (major === 6 && minor < 1);
}
