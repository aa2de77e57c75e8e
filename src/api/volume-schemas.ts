/** Volumes on the wire. */
import { z } from "@hono/zod-openapi";
import { filterQuery, labelsSchema } from "#api/label-schemas.ts";
import { filePath, parsed } from "#api/parsed.ts";
import { parseVolumeName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import { parseMountPath } from "#model/volume.ts";
import { parseVolumeFilters } from "#model/volume-filter.ts";

const volumeName = parsed(parseVolumeName);

export const volumeMountSchema = z
  .strictObject({
    name: volumeName.describe("Name of the volume"),
    path: parsed(parseMountPath).describe("Mount point in the guest, an absolute path"),
    readOnly: z
      .boolean()
      .optional()
      .describe("Mount it read-only; only then several VMs can use it (default: false)"),
  })
  .openapi("VolumeMount");

export const createVolumeSchema = z
  .strictObject({
    name: volumeName.describe("Name of the volume"),
    sizeBytes: z
      .int()
      .min(LIMITS.diskMinBytes)
      .max(LIMITS.diskMaxBytes)
      .optional()
      .describe(
        "Size of the volume (default: what `from` needs, with room to work); required without `from`",
      ),
    from: filePath
      .optional()
      .describe(
        "Directory of the host whose content is copied into the volume, an absolute path; hearthd reads it with its own rights (default: the volume is empty)",
      ),
    labels: labelsSchema.optional().describe("Labels of the volume (default: none)"),
  })
  .openapi("CreateVolume");

/** The query of the list of volumes: `filter` may be given several times. */
export const volumeFilterQuery = filterQuery(
  parseVolumeFilters,
  "label=KEY, label=KEY=VALUE, vm=NAME or name=PART. Can be repeated: a volume must have all the labels, be used by one of the VMs and have one of the name parts",
);

/** A disk that outlives VMs; see docs/volumes.md. */
export const volumeSchema = z
  .object({
    name: z.string().describe("Name of the volume"),
    owner: z.string().describe("Owner of the volume; always `local` while hearthd serves one user"),
    labels: z.record(z.string(), z.string()).describe("Labels of the volume"),
    path: z.string().describe("Path of the disk's file on the host"),
    sizeBytes: z.int().describe("Size of the disk"),
    allocatedBytes: z.int().describe("Space that the disk uses on the host"),
    createdAtMs: z.int().describe("Time of the creation"),
    usedBy: z.array(z.string()).describe("VMs that mount it, running or not"),
  })
  .openapi("Volume");
