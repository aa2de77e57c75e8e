/**
 * Checks what Firecracker's prod-host-setup.md asks of a host that runs guests of users who do not trust each other.
 * Hearth works without it, so failures are warnings, unless the host is said to be for production.
 */
import type { DoctorCheck } from "#api/wire.ts";
import { checkVmCreation } from "#daemon/doctor/check-vm-creation.ts";
import { checkCpuFlaws, checkMicrocode, checkSmt } from "#daemon/doctor/cpu-checks.ts";
import { HostFiles } from "#daemon/doctor/host-files.ts";
import { checkConsoleLog, checkMounts } from "#daemon/doctor/kernel-checks.ts";
import { checkKsm, checkSwap } from "#daemon/doctor/memory-checks.ts";

const CHECKS = [
  checkKsm,
  checkSwap,
  checkSmt,
  checkMicrocode,
  checkCpuFlaws,
  checkVmCreation,
  checkMounts,
  checkConsoleLog,
] as const;

/** Checks that concern speed alone. */
const SLOW_ONLY = new Set(["vm creation", "mounts", "console log"]);

/** @param production turns a risk between guests from a warning into a failure */
export function checkHost(production: boolean, files = new HostFiles()): DoctorCheck[] {
  return CHECKS.map((check): DoctorCheck => {
    const { name, verdict, found, fix } = check(files);
    const fails = production && verdict === "warn" && !SLOW_ONLY.has(name);
    return { name, verdict: fails ? "fail" : verdict, found, fix };
  });
}
