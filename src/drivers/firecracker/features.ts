import type { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { findFault } from "#drivers/firecracker/api/version-features.ts";
import type { FoundFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import type { DriverFeatures } from "#drivers/vm-driver.ts";

/** The verdict on this host's KVM; `unknown` until a guest has tried it. */
export type CachedKvmVerdict = "works" | "fails" | "unknown";

/** Memory besides the guest's; 34 to 37 MB were measured. */
const OVERHEAD_BYTES = 64 * MIB;

/** Changes with every change of the machine that Hearth configures. 3: drives are named after their index alone. */
const MACHINE_REVISION = 3;

const FULL_DISK =
  "On a full host disk the guest's writes fail, and its file system may become read-only: Firecracker does not pause it.";

const LAZY_MEMORY =
  "A VM that was restored reads its memory from the snapshot when it first needs it, and is slower until then.";

/**
 * Returns the features of a driver with this Firecracker. Pure.
 * @param cpu the host's CPU, which a guest has seen when it is saved
 */
export function firecrackerFeatures(
  found: FoundFirecracker,
  kvm: CachedKvmVerdict,
  cpu = "unknown CPU",
): DriverFeatures {
  const version = found.ok ? found.version : undefined;
  return {
    available: availability(found, kvm),
    version,
    accel: "kvm",
    kernelFormat: "elf",
    // Preferred over every other driver where KVM is known to work, and the last choice where that is unknown.
    preference: kvm === "works" ? 2 : 0,
    // Firecracker derives a disk's serial from the host file's device and inode numbers; it cannot be set.
    diskSerials: false,
    layeredDisks: false,
    pause: true,
    ...(version !== undefined && snapshotFeatures(version, cpu)),
    networks: ["none", "nat"],
    nested: undefined,
    limits: { disk: true, net: false },
    balloon: true,
    hotplug: { disk: false },
    caveats: [FULL_DISK],
    // A guest boots in less than a second with KVM; where KVM itself is emulated in 10, alone.
    agentDeadlineMs: 90_000,
    bootRetries: 0,
    vmmOverheadBytes: OVERHEAD_BYTES,
  };
}

function snapshotFeatures(
  version: string,
  cpu: string,
): Pick<DriverFeatures, "snapshots" | "snapshotsRefused"> {
  const fault = findFault(parseFirecrackerVersion(version), "snapshot");
  if (fault !== undefined) return { snapshotsRefused: asSentences(fault) };
  const clock = findFault(parseFirecrackerVersion(version), "guest-clock");
  return {
    snapshots: {
      diskFormat: "raw",
      vmmFingerprint: `firecracker ${version}, ${cpu}, machine ${MACHINE_REVISION}`,
      caveats: clock === undefined ? [LAZY_MEMORY] : [LAZY_MEMORY, asSentences(clock)],
    },
  };
}

function asSentences({ message, hint = "" }: HearthError): string {
  return `${message} ${hint}`.trim();
}

function availability(found: FoundFirecracker, kvm: CachedKvmVerdict): DriverFeatures["available"] {
  if (!found.ok) return { ok: false, reason: found.reason, hint: found.hint };
  if (kvm !== "fails") return { ok: true };
  const hint = "`hearth doctor` shows why. `--driver qemu` works without KVM.";
  return { ok: false, reason: "Firecracker needs KVM, which does not work on this host.", hint };
}
