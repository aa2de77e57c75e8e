/** Snapshots on the wire. */
import { z } from "@hono/zod-openapi";
import { filterQuery, labelsSchema } from "#api/label-schemas.ts";
import { parsed } from "#api/parsed.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { parseSnapshotFilters } from "#model/snapshot-filter.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";

const snapshotName = parsed(parseSnapshotName);

export const createSnapshotSchema = z
  .strictObject({
    vm: z.string().describe("Name or ID of the VM"),
    name: snapshotName
      .optional()
      .describe("Name of the snapshot (default: the VM's name and the time, in UTC)"),
    labels: labelsSchema.optional().describe("Labels of the snapshot (default: none)"),
    diskOnly: z.boolean().optional().describe("Leave out the memory of a VM that runs (default: false)"),
  })
  .openapi("CreateSnapshot");

/** The query of the list of snapshots: `filter` may be given several times. */
export const snapshotFilterQuery = filterQuery(
  parseSnapshotFilters,
  "label=KEY, label=KEY=VALUE, vm=NAME or name=PART. Can be repeated: a snapshot must have all the labels, be of one of the VMs and have one of the name parts",
);

/** A snapshot of a VM; see docs/snapshots.md. */
export const snapshotSchema = z
  .object({
    id: z.string().describe("ID of the snapshot"),
    owner: z.string().describe("Owner of the snapshot; always `local` while hearthd serves one user"),
    name: z.string().optional().describe("Name of the snapshot; a template has none"),
    labels: z.record(z.string(), z.string()).describe("Labels of the snapshot"),
    vm: z.string().describe("Name of the VM that it was created from, which may have been removed since"),
    image: z.string().describe("Image of that VM"),
    imageDigest: z.string().describe("Build of that image"),
    hasMemory: z.boolean().describe("False if it has the disk only"),
    driver: z.string().optional().describe("Driver that saved the memory"),
    vmm: z
      .string()
      .optional()
      .describe("The VMM, its version, CPU and machine, which must be the same to load the memory"),
    cpus: z.int().describe("Virtual CPUs"),
    memoryBytes: z.int().describe("Guest memory"),
    diskBytes: z.int().describe("Size of the writable disk"),
    network: z.enum(NETWORKS).describe("Network of the VM"),
    init: z.enum(INITS).describe("PID 1 in the guest"),
    allocatedBytes: z
      .int()
      .describe("Space that its files use on the host. Disk layers may be shared with other snapshots"),
    parts: z
      .array(
        z.object({
          name: z.string().describe("memory or state"),
          sizeBytes: z.int().describe("Size of the file"),
          sha256: z.string().describe("SHA-256 of the file, in hexadecimal digits"),
        }),
      )
      .describe("The guest memory file and the VM state file; empty in a disk-only snapshot"),
    usedBy: z.array(z.string()).describe("VMs that map its memory, or are yet to start from it"),
    createdAtMs: z.int().describe("Time of the creation"),
    lastUsedAtMs: z.int().describe("Time of the last start from it, or else of the creation"),
  })
  .openapi("Snapshot");
