/** The resource usage of a VM on the wire; docs/stats.md describes it. */
import { z } from "@hono/zod-openapi";
import { trafficSchema } from "#api/network-schemas.ts";
import { VM_PHASES } from "#model/vm-state.ts";

/** The metrics of a VMM, as the driver reports them. */
export const vmmMetricsSchema = z
  .object({
    vcpuExits: z
      .int()
      .describe("How often a CPU of the guest waited for a device of the VMM (ports and mapped registers)"),
    blockReadBytes: z.int().describe("Bytes that the guest read, all disks together"),
    blockWriteBytes: z.int().describe("Bytes that the guest wrote, all disks together"),
    blockReadOps: z.int().describe("Number of read requests, all disks together"),
    blockWriteOps: z.int().describe("Number of write requests, all disks together"),
    blockThrottledCount: z.int().describe("How often a disk had to wait for its limit"),
    vsockToGuestBytes: z.int().describe("Bytes from hearthd to the guest: commands, their input, files"),
    vsockFromGuestBytes: z.int().describe("Bytes from the guest to hearthd: output of commands, files"),
    missedLogCount: z
      .int()
      .describe("Log lines that the VMM could not write, because they were not read in time"),
    missedMetricsCount: z
      .int()
      .describe("Lines of counters that the VMM could not write, because they were not read in time"),
    seccompFaultCount: z.int().describe("System calls that the VMM's filter refused; one ends it"),
  })
  .openapi("VmmMetrics");

export const vmStatsSchema = z
  .object({
    id: z.string().describe("ID of the VM"),
    name: z.string().describe("Name of the VM"),
    phase: z.enum(VM_PHASES).describe("State of the VM"),
    collectedAtMs: z.int().describe("Time of this reading"),
    cpuPercent: z
      .number()
      .describe(
        "Percent of one host CPU, over at least a second, or since the VMM's start: 200 is two whole CPUs",
      ),
    rssBytes: z.int().describe("Resident memory of the VMM; 0 if none runs"),
    vszBytes: z.int().describe("Virtual memory of the VMM; 0 if none runs"),
    memoryBytes: z
      .int()
      .optional()
      .describe("Memory that the guest has now; absent if it is unknown, and while the VM does not run"),
    diskAllocatedBytes: z.int().describe("Space that the VM's writable disk uses on the host"),
    diskBytes: z.int().describe("Size of the VM's writable disk"),
    network: trafficSchema
      .optional()
      .openapi({ description: "Traffic of the running VM; absent without network nat" }),
    vmm: vmmMetricsSchema
      .optional()
      .openapi({ description: "Counters of the VMM; absent if it has none, like QEMU, or does not answer" }),
  })
  .openapi("VmStats");
