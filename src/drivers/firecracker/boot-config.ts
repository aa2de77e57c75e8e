/** Builds Firecracker's configuration of a VM, in one pure function. */
import { join } from "node:path";
import { FIRECRACKER_FILES } from "#base/file-names.ts";
import { invariant } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import type { CpuConfig, CpuidModifier } from "#drivers/firecracker/api/cpu-config.ts";
import type { Drive } from "#drivers/firecracker/api/drive.ts";
import type { NetworkInterface } from "#drivers/firecracker/api/network-interface.ts";
import type { FirecrackerConfig } from "#drivers/firecracker/api/firecracker-config.ts";
import { bucketsOf } from "#drivers/firecracker/disk-limits.ts";
import { driveId } from "#drivers/firecracker/drive-id.ts";
import type { BootPlan, DiskPlan } from "#drivers/vm-driver.ts";
import type { NicPlan } from "#model/nic.ts";

/** The paths in its run directory that a VMM listens on and writes to. */
export type FirecrackerFiles = {
  readonly api: string;
  readonly vsock: string;
  /** Named pipes. */
  readonly console: string;
  readonly log: string;
  readonly metrics: string;
  /** A link to the directory itself. */
  readonly self: string;
};

/**
 * The name of the run directory in everything that the VMM saves: a relative path that works for each VMM, with and
 * without a jail. In a jail the directory is shown at this name below the root, which is the VMM's working directory.
 * Without one the VMM works in the run directory, which has a link of this name to itself. Only for this reason a VM
 * state file of one VM can be loaded by another VM's Firecracker, which opens the paths in it.
 */
const SELF = "vm";
/** `SELF` as an absolute path in a jail. */
export const RUN_DIR_IN_JAIL = `/${SELF}`;
const VSOCK = FIRECRACKER_FILES.vsock;

/** The agent's port in the guest; `VsockPort` in agent/internal/channel. */
export const AGENT_VSOCK_PORT = 1024;
/** Each VMM has its own vsock device, so all guests can use the first free number. */
const GUEST_CID = 3;

/** Returns the paths inside of a VM's run directory. */
export function firecrackerFiles(runDir: string): FirecrackerFiles {
  return {
    api: join(runDir, FIRECRACKER_FILES.api),
    vsock: join(runDir, VSOCK),
    console: join(runDir, FIRECRACKER_FILES.console),
    log: join(runDir, FIRECRACKER_FILES.log),
    metrics: join(runDir, FIRECRACKER_FILES.metrics),
    self: join(runDir, SELF),
  };
}

/** Returns the links in the run directory by which Firecracker opens its disks, and their targets. */
export function diskLinks(plan: Pick<BootPlan, "runDir" | "disks">): { at: string; to: string }[] {
  return plan.disks.map((disk, index) => ({ at: join(plan.runDir, driveId(index)), to: disk.path }));
}

/** Returns the whole configuration before the start. */
export function firecrackerConfig(plan: BootPlan): FirecrackerConfig {
  const files = firecrackerFiles(plan.runDir);
  return {
    metrics: { metricsPath: files.metrics },
    cpuConfig: NO_NESTING,
    machineConfig: { vcpuCount: plan.cpus, memSizeMib: Math.floor(plan.memoryBytes / MIB) },
    bootSource: {
      kernelImagePath: plan.kernel,
      initrdPath: plan.initramfs,
      bootArgs: kernelCommandLine(plan.kernelArgs),
    },
    drives: plan.disks.map((disk, index) => drive(disk, index)),
    networkInterfaces: plan.nics.map(networkInterface),
    vsock: { guestCid: GUEST_CID, udsPath: join(SELF, VSOCK) },
    entropy: {},
    balloon: { amountMib: 0, deflateOnOom: true, statsPollingIntervalS: BALLOON_STATISTICS_S },
  };
}

/** Returns a modifier that clears a bit of ecx in a CPUID leaf. */
function clear(leaf: string, bit: number): CpuidModifier {
  const bitmap = `0b${"x".repeat(31 - bit)}0${"x".repeat(bit)}`;
  return { leaf, subleaf: "0x0", flags: 0, modifiers: [{ register: "ecx", bitmap }] };
}

/** Hides VMX and SVM: guests of Firecracker run no VMs themselves, and do not reach KVM's nesting code. */
const NO_NESTING: CpuConfig = { cpuidModifiers: [clear("0x1", 5), clear("0x80000001", 2)] };

/** The interval in which the guest reports memory statistics; once a minute costs nothing. */
const BALLOON_STATISTICS_S = 60;

/** Returns the configuration of a card, whose other end is a TAP device in the VMM's network namespace. */
function networkInterface({ id, mac, attach }: NicPlan): NetworkInterface {
  invariant(attach.kind === "tap", "Firecracker's cards are on TAP devices, as its features say");
  return { ifaceId: id, guestMac: mac, hostDevName: attach.name };
}

/**
 * Returns the configuration of a disk. No disk is the root device: the initramfs finds its disks by their letters,
 * which follow this order.
 */
function drive(disk: DiskPlan, index: number): Drive {
  const id = driveId(index);
  return {
    driveId: id,
    pathOnHost: join(SELF, id),
    isRootDevice: false,
    isReadOnly: disk.readOnly,
    // What the guest has synced is safe; Firecracker's default ignores its flushes.
    ...(!disk.readOnly && { cacheType: "Writeback" as const }),
    ...(disk.limit && { rateLimiter: bucketsOf(disk.limit) }),
  };
}

/**
 * Returns the kernel's arguments. The user's come last: the kernel takes the last of two that contradict each other.
 */
export function kernelCommandLine(words: readonly string[]): string {
  return [
    "console=ttyS0",
    "quiet",
    // Firecracker ends when the guest resets it through the keyboard controller; there is no other way for a guest to
    // end it.
    "reboot=k",
    "panic=-1",
    "pci=off",
    // Features that Firecracker's keyboard controller does not have; probing them takes half a second.
    "i8042.noaux",
    "i8042.nomux",
    "i8042.dumbkbd",
    "random.trust_cpu=on",
    "hearth.channel=vsock",
    // Firecracker has no power switch either: a guest that powers off would stop, and its VMM would keep running.
    "hearth.off=restart",
    ...words,
  ].join(" ");
}
