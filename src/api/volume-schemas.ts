/** Volumes on the wire; see schemas.ts. */
import { z } from "@hono/zod-openapi";
import { filterQuery, labelsSchema } from "#api/label-schemas.ts";
import { filePath, parsed } from "#api/parsed.ts";
import { parseVolumeName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import { parseMountPath } from "#model/volume.ts";
import { parseVolumeFilters } from "#model/volume-filter.ts";

const volumeName = parsed(parseVolumeName);

export const volumeMountSchema = z
  .strictObject({ name: volumeName, path: parsed(parseMountPath), readOnly: z.boolean().optional() })
  .openapi("VolumeMount");

export const createVolumeSchema = z
  .strictObject({
    name: volumeName,
    /** Default: what `from` needs, with room to work. */
    sizeBytes: z.int().min(LIMITS.diskMinBytes).max(LIMITS.diskMaxBytes).optional(),
    /** A directory of the host whose content is copied into the volume. hearthd reads it with its own rights. */
    from: filePath.optional(),
    labels: labelsSchema.optional(),
  })
  .openapi("CreateVolume");

/** The query of the list of volumes: `filter` may be given several times. */
export const volumeFilterQuery = filterQuery(
  parseVolumeFilters,
  "label=KEY, label=KEY=VALUE, vm=NAME or name=PART; several filters: all of the labels, and one of the VMs and of the names",
);

/** A disk that outlives VMs; see docs/volumes.md. */
export const volumeSchema = z
  .object({
    name: z.string(),
    /** The principal that owns the volume. */
    owner: z.string(),
    labels: z.record(z.string(), z.string()),
    /** The path of the disk's file on the host. */
    path: z.string(),
    sizeBytes: z.int(),
    allocatedBytes: z.int(),
    createdAtMs: z.int(),
    /** The VMs that mount it, running or not. */
    usedBy: z.array(z.string()),
  })
  .openapi("Volume");
