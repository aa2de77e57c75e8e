import { isLimitedDisk } from "#drivers/qemu/command-line.ts";
import type { IoThrottle, QmpMonitor } from "#drivers/qemu/qmp.ts";
import type { VmLimits } from "#drivers/vm-driver.ts";

/** Gives each of the VM's own disks these limits, and takes away what is not in them. */
export async function limitDisks(monitor: QmpMonitor, limits: VmLimits, deadlineMs: number): Promise<void> {
  for (const { qdev = "" } of await monitor.send("query-block", undefined, deadlineMs)) {
    if (isLimitedDisk(qdev))
      await monitor.send("block_set_io_throttle", throttleOf(qdev, limits), deadlineMs);
  }
}

/** QEMU refuses a bucket without a rate, and one that holds less than a second's worth. */
function throttleOf(id: string, { disk = {} }: VmLimits): IoThrottle {
  const { bandwidthBytesPerS = 0, bandwidthBurstBytes, opsPerS = 0, opsBurst } = disk;
  return {
    id,
    bps: bandwidthBytesPerS,
    bps_rd: 0,
    bps_wr: 0,
    iops: opsPerS,
    iops_rd: 0,
    iops_wr: 0,
    ...(bandwidthBurstBytes !== undefined && { bps_max: bandwidthBurstBytes }),
    ...(opsBurst !== undefined && { iops_max: opsBurst }),
  };
}
