import type { DoctorCheck } from "#api/wire.ts";
import type { HostFiles } from "#daemon/doctor/host-files.ts";

const FLAWS = "/sys/devices/system/cpu/vulnerabilities";

/** Checks hyper-threading: two threads of one core share its caches and buffers. */
export function checkSmt(files: HostFiles): DoctorCheck {
  const control = files.text("/sys/devices/system/cpu/smt/control");
  const active = files.text("/sys/devices/system/cpu/smt/active");
  if (control === undefined) return { name: "smt", verdict: "pass", found: "not in this kernel" };
  if (active !== "1" && control !== "on") return { name: "smt", verdict: "pass", found: control };
  return {
    name: "smt",
    verdict: "warn",
    found: "on: guests on the two threads of a core can spy on each other",
    fix: "boot with nosmt=force; not needed if all guests belong to one person",
  };
}

/** Checks the microcode, which has half of the fixes of CPU flaws. Newer kernels know which revision is the last. */
export function checkMicrocode(files: HostFiles): DoctorCheck {
  const cpu = files.text("/proc/cpuinfo") ?? "";
  const revision = /^microcode\s*:\s*(\S+)/m.exec(cpu)?.[1];
  if (revision === undefined) return { name: "microcode", verdict: "pass", found: "not on this CPU" };
  const old = files.text(`${FLAWS}/old_microcode`)?.startsWith("Vulnerable") ?? false;
  const lacking = flawsOf(files).filter(([, state]) => /no microcode/i.test(state));
  if (old || lacking.length > 0) {
    const why = old
      ? "the kernel knows a newer revision"
      : `too old for ${lacking.map(([name]) => name).join(", ")}`;
    return {
      name: "microcode",
      verdict: "warn",
      found: `revision ${revision}: ${why}`,
      fix: /^flags\s*:.*\bhypervisor\b/m.test(cpu)
        ? "This host is itself a VM: the host below it must load the microcode."
        : "apt-get install intel-microcode (or amd64-microcode), and reboot",
    };
  }
  return { name: "microcode", verdict: "pass", found: `revision ${revision}` };
}

/** Checks what the kernel reports of each CPU flaw that it knows, and whether it mitigates it. */
export function checkCpuFlaws(files: HostFiles): DoctorCheck {
  const name = "cpu flaws";
  const flaws = flawsOf(files);
  if (flaws.length === 0)
    return { name, verdict: "warn", found: `unknown: ${FLAWS} is missing`, fix: "Upgrade the kernel." };
  // Parts after the first are conditions, such as "SMT vulnerable".
  const open = flaws.filter(([, state]) => /\bvulnerable\b/i.test(state));
  if (open.length === 0) return { name, verdict: "pass", found: `all ${flaws.length} that the kernel knows` };
  const off = /\bmitigations=off\b/.test(files.text("/proc/cmdline") ?? "");
  return {
    name,
    verdict: "warn",
    found: `guests may read data of other guests or of the host: ${open.map(describe).join(", ")}`,
    fix: off ? "boot without mitigations=off" : `upgrade kernel and microcode; ${FLAWS} has the details`,
  };
}

function describe([name, state]: readonly [string, string]): string {
  return /SMT vulnerable/i.test(state) && !/^vulnerable/i.test(state) ? `${name} (SMT)` : name;
}

function flawsOf(files: HostFiles): (readonly [name: string, state: string])[] {
  return files.names(FLAWS).map((name) => [name, files.text(`${FLAWS}/${name}`) ?? ""] as const);
}
