import { HearthError, invariant } from "#base/error.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { describeHostCpu } from "#drivers/host-cpu.ts";
import { machineRevision } from "#drivers/qemu/command-line.ts";
import { mapsReadOnly } from "#drivers/qemu/guest-memory.ts";
import { readTscKhz } from "#drivers/qemu/host-clock.ts";
import { findInstalledQemu } from "#drivers/qemu/installed-qemu.ts";
import type { InstalledQemu, QemuFirmware } from "#drivers/qemu/installed-qemu.ts";
import type { DriverFeatures, SnapshotFeatures } from "#drivers/vm-driver.ts";
import { LIMITS } from "#model/limits.ts";
import { NETWORKS } from "#model/vm-spec.ts";

/** The first version with these arguments of `-sandbox`, JSON for -blockdev, and microvm with ACPI. */
const VERSION_MIN = [6, 2] as const;

const EMULATED =
  "The CPU is emulated, because this host has no working KVM: QEMU's emulation is not a security boundary.";

/**
 * The memory of QEMU itself: 57 MB were measured for QEMU 7.2 with one guest; its buffers and threads grow with the
 * load.
 */
const QEMU_BYTES = 128 * MIB;
/** An emulating QEMU also keeps translated code: up to 1 GiB, its own limit. */
const EMULATOR_BYTES = QEMU_BYTES + GIB;

/** Returns the features of the driver with this QEMU on this host. @throws the reason of `signal` */
export async function qemuFeatures(
  program: string,
  accel: "kvm" | "tcg",
  signal: AbortSignal,
): Promise<DriverFeatures> {
  const installed = await findInstalledQemu(program, signal);
  return describeFeatures(installed, accel);
}

/**
 * Returns the firmware of this QEMU.
 * @throws HearthError `vmm.missing` when no VM can boot with this QEMU
 */
export async function findFirmware(program: string, signal: AbortSignal): Promise<QemuFirmware> {
  const installed = await findInstalledQemu(program, signal);
  const available = availability(installed);
  if (!available.ok) throw new HearthError("vmm.missing", available.reason, { hint: available.hint });
  invariant(
    !(installed instanceof Error) && installed.firmware !== undefined,
    "an available QEMU has firmware",
  );
  return installed.firmware;
}

/** Returns the features of a driver with this QEMU. Pure. */
export function describeFeatures(installed: InstalledQemu | Error, accel: "kvm" | "tcg"): DriverFeatures {
  return {
    available: availability(installed),
    version: installed instanceof Error ? undefined : installed.version,
    accel,
    kernelFormat: "bzimage",
    preference: 1,
    pause: true,
    diskSerials: true,
    layeredDisks: true,
    snapshots: installed instanceof Error ? undefined : snapshotFeatures(installed, accel),
    networks: NETWORKS,
    nested: nestedCpus(accel),
    // A network namespace has the limits itself.
    limits: { disk: true, net: false },
    balloon: true,
    // A microvm has no bus that a disk could be plugged into.
    hotplug: { disk: false },
    caveats: accel === "tcg" ? [EMULATED] : [],
    // A guest boots in less than a second with KVM. Emulated, or with a KVM that is emulated itself, it takes 3 to 10 s
    // on an idle machine with two cores, and 25 to 45 s on one with a load of 15.
    agentDeadlineMs: 90_000,
    // A microvm's only timer is the local APIC's, and Linux measures its frequency in 100 ms of the TSC. When the host
    // does not run the vCPU for that long, the kernel says "APIC frequency too slow, disabling apic timer", and waits
    // forever for its first tick: seen with QEMU 10.0, in 1 of 220 boots at a load of 6.
    bootRetries: accel === "tcg" ? 1 : 0,
    vmmOverheadBytes: accel === "tcg" ? EMULATOR_BYTES : QEMU_BYTES,
  };
}

const COPIES_MEMORY =
  "QEMU before 8.2 opens a guest memory file for writing, so each restored VM begins with its own copy of it: restoring takes longer, and takes disk space and memory that newer versions share between VMs.";
const SHARES_MEMORY =
  "A restored VM cannot give memory back while it runs, because it shares its guest memory file with other VMs.";

function snapshotFeatures({ version }: InstalledQemu, accel: "kvm" | "tcg"): SnapshotFeatures {
  // An emulated CPU depends on QEMU alone; with KVM the guest has seen the host's CPU.
  const cpu = accel === "kvm" ? describeHostCpu() : `emulated at ${describeClock(readTscKhz())}`;
  return {
    diskFormat: "qcow2",
    vmmFingerprint: `qemu ${version}, ${cpu}, machine ${machineRevision(accel)}`,
    caveats: [mapsReadOnly(version) ? SHARES_MEMORY : COPIES_MEMORY],
  };
}

/**
 * Describes the rate of the host's counter: a guest that was calibrated for one host's counter tells the time wrong on
 * another.
 */
function describeClock(khz: number | undefined): string {
  return khz === undefined ? "an unknown clock" : `${(khz / 1_000_000).toFixed(1)} GHz`;
}

/**
 * Returns how many CPUs a guest with nested VMs may have. An emulated guest with two CPUs crashes as soon as it uses
 * KVM itself: with QEMU 7.2 at once, in its kernel's text patching; with 10.0 after an hour of work, twice in a day.
 */
function nestedCpus(accel: "kvm" | "tcg"): DriverFeatures["nested"] {
  if (accel === "kvm") return { cpusMax: LIMITS.cpusMax };
  return { cpusMax: 1, reason: "an emulated one crashes with more" };
}

function availability(installed: InstalledQemu | Error): DriverFeatures["available"] {
  if (installed instanceof Error) {
    const hint = installed instanceof HearthError ? installed.hint : undefined;
    return {
      ok: false,
      reason: installed.message,
      hint: hint ?? "Install it: apt-get install qemu-system-x86",
    };
  }
  const { version, firmware } = installed;
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major < VERSION_MIN[0] || (major === VERSION_MIN[0] && minor < VERSION_MIN[1])) {
    const reason = `QEMU ${version} is too old; Hearth needs ${VERSION_MIN.join(".")}.`;
    return { ok: false, reason, hint: "Upgrade the package qemu-system-x86." };
  }
  if (firmware !== undefined) return { ok: true };
  const reason = `QEMU ${version} is installed without qboot.rom, the firmware that microvms boot with.`;
  return { ok: false, reason, hint: "Install it: apt-get install qemu-system-data" };
}
