import { join } from "node:path";
import { SNAPSHOT_NAMES } from "#base/file-names.ts";
import type { Host } from "#daemon/host.ts";
import { snapshotsDir } from "#daemon/store/paths.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";

/** The bytes written for each byte in use: QEMU's stream, and the file that VMs map. For a moment there are both. */
const COPIES = 2;

/**
 * Refuses to save a VM if there is no room for its memory, as far as its VMM has it now. A guest may use more
 * meanwhile: the driver checks again while it writes.
 * @throws HearthError `host.disk_full`
 */
export async function checkMemoryRoom(host: Host, vm: VmRecord, handle: VmHandle): Promise<void> {
  const { memoryBytes = vm.spec.memoryBytes } = handle;
  const used = Math.min(memoryBytes, host.processes.usage(handle.processes[0])?.rssBytes ?? memoryBytes);
  const dir = snapshotsDir(host.dirs);
  await host.files.makeDir(dir);
  await host.files.checkRoom(join(dir, SNAPSHOT_NAMES.memory), COPIES * used);
}
