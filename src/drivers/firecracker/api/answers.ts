/** Firecracker's answers in camelCase; a null of Firecracker's is absent here. */
import type { Balloon } from "#drivers/firecracker/api/balloon.ts";
import type { CpuConfig } from "#drivers/firecracker/api/cpu-config.ts";
import type { Drive } from "#drivers/firecracker/api/drive.ts";
import type { Entropy } from "#drivers/firecracker/api/entropy.ts";
import type { BootSource, MachineConfig } from "#drivers/firecracker/api/machine.ts";
import type { MemoryHotplug } from "#drivers/firecracker/api/memory-hotplug.ts";
import type { MmdsConfig } from "#drivers/firecracker/api/mmds.ts";
import type { NetworkInterface } from "#drivers/firecracker/api/network-interface.ts";
import type { Logger, Metrics } from "#drivers/firecracker/api/outputs.ts";
import type { Pmem } from "#drivers/firecracker/api/pmem.ts";
import type { Vsock } from "#drivers/firecracker/api/vsock.ts";

export type InstanceInfo = {
  readonly appName: string;
  /** The argument of `--id`. */
  readonly id: string;
  readonly state: "Not started" | "Running" | "Paused";
  readonly vmmVersion: string;
};

/**
 * The whole configuration. For a restored VM, boot source, smt and CPU template are empty. The version decides which
 * sections exist.
 */
export type VmConfig = {
  readonly bootSource?: Partial<BootSource> | undefined;
  readonly machineConfig?: MachineConfig | undefined;
  readonly cpuConfig?: CpuConfig | undefined;
  readonly drives?: readonly Drive[] | undefined;
  readonly pmem?: readonly Pmem[] | undefined;
  readonly networkInterfaces?: readonly NetworkInterface[] | undefined;
  readonly mmdsConfig?: MmdsConfig | undefined;
  readonly vsock?: Vsock | undefined;
  readonly entropy?: Entropy | undefined;
  readonly balloon?: Balloon | undefined;
  readonly memoryHotplug?: MemoryHotplug | undefined;
  readonly logger?: Logger | undefined;
  readonly metrics?: Metrics | undefined;
};
