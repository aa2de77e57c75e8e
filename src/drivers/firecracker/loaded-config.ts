/**
 * Compares the configuration that a Firecracker reports after loading a VM state file with that of the plan. The state
 * decides which files the VMM opens and where its socket is. It may have been forged, so nothing in it is trusted.
 */
import { HearthError } from "#base/error.ts";
import type { VmConfig } from "#drivers/firecracker/api/answers.ts";
import type { Drive } from "#drivers/firecracker/api/drive.ts";
import type { FirecrackerConfig } from "#drivers/firecracker/api/firecracker-config.ts";

/** The sections of both configurations that have a size, or a path on the host. */
type Compared = Pick<
  VmConfig & FirecrackerConfig,
  "machineConfig" | "drives" | "vsock" | "networkInterfaces" | "pmem" | "memoryHotplug"
>;

/** Texts by section. Each has to be equal for both configurations. */
const DESCRIBED: Readonly<Record<string, (config: Partial<Compared>) => string>> = {
  shape: ({ machineConfig }) => `${machineConfig?.vcpuCount} CPUs and ${machineConfig?.memSizeMib} MiB`,
  // Sorted: the guest remembers which device is which, and each drive is named after its index.
  disks: ({ drives = [] }) => drives.map(describeDrive).toSorted().join(", "),
  vsock: ({ vsock }) => (vsock === undefined ? "none" : `${vsock.guestCid} at ${vsock.udsPath}`),
  network: ({ networkInterfaces = [] }) =>
    networkInterfaces.map(({ ifaceId, hostDevName }) => `${ifaceId} on ${hostDevName}`).join(", "),
  "persistent memory": ({ pmem = [] }) =>
    pmem.map(({ id, pathOnHost }) => `${id} at ${pathOnHost}`).join(", "),
  "memory hotplug": ({ memoryHotplug }) => (memoryHotplug === undefined ? "none" : "some"),
};

/** Compares both configurations, before the guest runs. @throws HearthError `snapshot.failed` with what differs */
export function checkLoaded(loaded: VmConfig, wanted: FirecrackerConfig): void {
  for (const [what, describe] of Object.entries(DESCRIBED)) {
    const [was, asked] = [describe(loaded), describe(wanted)];
    if (was === asked) continue;
    const text = `Cannot restore the VM: the ${what} of the snapshot is not that of the VM (${shown(was)}, not ${shown(asked)}).`;
    throw new HearthError("snapshot.failed", text, {
      hint: "Restore it into a VM with the same configuration; a snapshot with another one may be forged.",
    });
  }
}

function describeDrive(drive: Drive): string {
  const { driveId, pathOnHost, socket, isReadOnly = false, isRootDevice, cacheType = "Unsafe" } = drive;
  const at = socket === undefined ? String(pathOnHost) : `socket ${socket}`;
  const mode = isReadOnly ? "read-only" : `written, ${cacheType}`;
  return `${driveId} at ${at} (${mode}${isRootDevice ? ", root" : ""})`;
}

const SHOWN_MAX_CHARS = 500;

/** Shortens a text that the VMM has written, on one line. */
function shown(text: string): string {
  // eslint-disable-next-line no-control-regex -- what a VMM writes is made safe for a terminal
  const line = text.replace(/[\x00-\x1f\x7f]/g, "?");
  return line === "" ? "none" : line.slice(0, SHOWN_MAX_CHARS);
}
