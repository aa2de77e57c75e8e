/** Snapshots on the wire; see schemas.ts. */
import { z } from "@hono/zod-openapi";
import { parsed } from "#api/parsed.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";

const snapshotName = parsed(parseSnapshotName);

export const createSnapshotSchema = z
  .strictObject({ vm: z.string(), name: snapshotName.optional(), diskOnly: z.boolean().optional() })
  .openapi("CreateSnapshot");

/** A saved VM; see docs/snapshots.md. */
export const snapshotSchema = z
  .object({
    id: z.string(),
    name: z.string().optional(),
    vm: z.string(),
    image: z.string(),
    imageDigest: z.string(),
    /** False: the disk alone. */
    hasMemory: z.boolean(),
    driver: z.string().optional(),
    /** The VMM that it fits. */
    vmm: z.string().optional(),
    cpus: z.int(),
    memoryBytes: z.int(),
    diskBytes: z.int(),
    network: z.enum(NETWORKS),
    init: z.enum(INITS),
    /** What its files take; layers of disks may be shared with others. */
    allocatedBytes: z.int(),
    parts: z.array(z.object({ name: z.string(), sizeBytes: z.int(), sha256: z.string() })),
    /** The VMs that map its memory, or are yet to start from it. */
    usedBy: z.array(z.string()),
    createdAtMs: z.int(),
    lastUsedAtMs: z.int(),
  })
  .openapi("Snapshot");
