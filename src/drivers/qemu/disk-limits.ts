import { diskOfDevice } from "#drivers/qemu/command-line.ts";
import type { IoThrottle, QmpMonitor } from "#drivers/qemu/qmp.ts";
import { limitOf } from "#drivers/device-limits.ts";
import type { DeviceLimits } from "#drivers/vm-driver.ts";
import type { RateLimit } from "#model/rate-limit.ts";

/** Sets the limits of the named disks; a missing limit removes the disk's limit. Other disks keep theirs. */
export async function limitDisks(
  monitor: QmpMonitor,
  { disks = {} }: DeviceLimits,
  deadlineMs: number,
): Promise<void> {
  for (const { qdev = "" } of await monitor.send("query-block", undefined, deadlineMs)) {
    const found = limitOf(disks, diskOfDevice(qdev));
    if (found !== undefined)
      await monitor.send("block_set_io_throttle", throttleOf(qdev, found.limit), deadlineMs);
  }
}

/**
 * Returns a limit as QEMU takes it. QEMU refuses a bucket without a rate, and one that holds less than a second's
 * worth.
 */
function throttleOf(id: string, limit: RateLimit = {}): IoThrottle {
  const { bandwidthBytesPerS = 0, bandwidthBurstBytes, opsPerS = 0, opsBurst } = limit;
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
