import { join } from "node:path";
import { SNAPSHOT_NAMES } from "#base/file-names.ts";
import type { Host } from "#daemon/host.ts";
import { snapshotsDir } from "#daemon/store/paths.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";

/** What is written of each byte in use: as QEMU sends it, and as the file that VMs map; for a moment there are both. */
const COPIES = 2;

/**
 * Refuses to save a VM where its memory, as far as the VMM has it now, has no room. A guest may use more of it meanwhile:
 * the driver looks again while it writes.
 * @throws HearthError `host.disk_full`
 */
export async function checkMemoryRoom(host: Host, vm: VmRecord, handle: VmHandle): Promise<void> {
  const { memoryBytes = vm.spec.memoryBytes } = handle;
  const used = Math.min(memoryBytes, host.processes.usage(handle.processes[0])?.rssBytes ?? memoryBytes);
  const dir = snapshotsDir(host.dirs);
  await host.files.makeDir(dir);
  await host.files.checkRoom(join(dir, SNAPSHOT_NAMES.memory), COPIES * used);
}
