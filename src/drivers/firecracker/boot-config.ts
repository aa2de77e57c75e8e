/** What Firecracker is told of a VM, decided in one pure function. */
import { join } from "node:path";
import { FIRECRACKER_FILES } from "#base/file-names.ts";
import { MIB } from "#base/sizes.ts";
import type { CpuConfig, CpuidModifier } from "#drivers/firecracker/api/cpu-config.ts";
import type { Drive } from "#drivers/firecracker/api/drive.ts";
import type { FirecrackerConfig } from "#drivers/firecracker/api/firecracker-config.ts";
import { bucketsOf } from "#drivers/firecracker/disk-limits.ts";
import { driveId } from "#drivers/firecracker/drive-id.ts";
import type { BootPlan, DiskPlan } from "#drivers/vm-driver.ts";

/** What a VMM in this run directory listens on and writes to. */
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
 * What the VMM calls its run directory in all that it saves: a path that each VMM has, whatever its jail. In a jail the
 * directory is shown there, below the root, which is where the VMM works; without one the VMM works in the directory, where
 * there is a link of that name. A state that was saved in one VM fits another for this reason alone, because a
 * Firecracker that loads it opens what was open.
 */
const SELF = "vm";
/** `SELF` as a jail has it. */
export const RUN_DIR_IN_JAIL = `/${SELF}`;
const VSOCK = FIRECRACKER_FILES.vsock;

/** Of the agent in the guest; `VsockPort` in agent/internal/channel. */
export const AGENT_VSOCK_PORT = 1024;
/** Each VMM has a vsock device of its own, so all guests may have the first number that is free. */
const GUEST_CID = 3;

/** Paths inside of a VM's run directory. */
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

/** Links in the run directory, by which Firecracker finds its disks: where they are, and what they point to. */
export function diskLinks(plan: Pick<BootPlan, "runDir" | "disks">): { at: string; to: string }[] {
  return plan.disks.map((disk, index) => ({ at: join(plan.runDir, driveId(index)), to: disk.path }));
}

/** The whole configuration before the start. */
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
    vsock: { guestCid: GUEST_CID, udsPath: join(SELF, VSOCK) },
    entropy: {},
    balloon: { amountMib: 0, deflateOnOom: true, statsPollingIntervalS: BALLOON_STATISTICS_S },
  };
}

/** Clears a bit of what CPUID tells the guest in ecx. */
function clear(leaf: string, bit: number): CpuidModifier {
  const bitmap = `0b${"x".repeat(31 - bit)}0${"x".repeat(bit)}`;
  return { leaf, subleaf: "0x0", flags: 0, modifiers: [{ register: "ecx", bitmap }] };
}

/** Hides VMX and SVM: no guest of Firecracker's is to run VMs itself, and reach the code of KVM's nesting. */
const NO_NESTING: CpuConfig = { cpuidModifiers: [clear("0x1", 5), clear("0x80000001", 2)] };

/** The guest writes them; once a minute costs nothing. */
const BALLOON_STATISTICS_S = 60;

/** None is the root device: the initramfs finds its disks by their letters, which follow the order in here. */
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

/** Words of the user come last: the kernel takes the last of two that contradict each other. */
export function kernelCommandLine(words: readonly string[]): string {
  return [
    "console=ttyS0",
    "quiet",
    // Firecracker ends when the guest's keyboard controller resets it, and has no other way to be told.
    "reboot=k",
    "panic=-1",
    "pci=off",
    // Devices that Firecracker's keyboard controller does not have; looking for them takes half a second.
    "i8042.noaux",
    "i8042.nomux",
    "i8042.dumbkbd",
    "random.trust_cpu=on",
    "hearth.channel=vsock",
    // It has no power switch either: a guest that tries to use one halts, and its VMM runs on.
    "hearth.off=restart",
    ...words,
  ].join(" ");
}
