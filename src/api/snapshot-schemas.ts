/** Snapshots on the wire; see schemas.ts. */
import { z } from "@hono/zod-openapi";
import { filterQuery, labelsSchema } from "#api/label-schemas.ts";
import { parsed } from "#api/parsed.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { parseSnapshotFilters } from "#model/snapshot-filter.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";

const snapshotName = parsed(parseSnapshotName);

export const createSnapshotSchema = z
  .strictObject({
    vm: z.string(),
    name: snapshotName.optional(),
    labels: labelsSchema.optional(),
    diskOnly: z.boolean().optional(),
  })
  .openapi("CreateSnapshot");

/** The query of the list of snapshots: `filter` may be given several times. */
export const snapshotFilterQuery = filterQuery(
  parseSnapshotFilters,
  "label=KEY, label=KEY=VALUE, vm=NAME or name=PART; several filters: all of the labels, and one of the VMs and of the names",
);

/** A snapshot of a VM; see docs/snapshots.md. */
export const snapshotSchema = z
  .object({
    id: z.string(),
    /** The principal that owns the snapshot. */
    owner: z.string(),
    name: z.string().optional(),
    labels: z.record(z.string(), z.string()),
    vm: z.string(),
    image: z.string(),
    imageDigest: z.string(),
    /** False if it has the disk only. */
    hasMemory: z.boolean(),
    driver: z.string().optional(),
    /** The VMM and its version, which must be the same to load the memory. */
    vmm: z.string().optional(),
    cpus: z.int(),
    memoryBytes: z.int(),
    diskBytes: z.int(),
    network: z.enum(NETWORKS),
    init: z.enum(INITS),
    /** The size of its files on the host, in bytes. Disk layers may be shared with other snapshots. */
    allocatedBytes: z.int(),
    parts: z.array(z.object({ name: z.string(), sizeBytes: z.int(), sha256: z.string() })),
    /** The VMs that map its memory, or are yet to start from it. */
    usedBy: z.array(z.string()),
    createdAtMs: z.int(),
    lastUsedAtMs: z.int(),
  })
  .openapi("Snapshot");
