/** All routes of the API. The server implements them, and the OpenAPI document lists them. */
import { createRoute, z } from "@hono/zod-openapi";
import { vmFilterQuery } from "#api/label-schemas.ts";
import { LOST_FOUND_ROUTES } from "#api/lost-found-routes.ts";
import { OPERATION_ROUTES } from "#api/operation-routes.ts";
import { answers, body, done, fails, json, made } from "#api/route-parts.ts";
import * as s from "#api/schemas.ts";
import { createSnapshotSchema, snapshotFilterQuery, snapshotSchema } from "#api/snapshot-schemas.ts";
import {
  createVolumeSchema,
  volumeFilterQuery,
  volumeMountSchema,
  volumeSchema,
} from "#api/volume-schemas.ts";

const vmParam = z.object({
  vm: z
    .string()
    .openapi({ param: { name: "vm", in: "path" }, description: "A VM's name or id", example: "web-1" }),
});
const refParam = z.object({
  ref: s.imageRef.openapi({
    param: { name: "ref", in: "path" },
    description: "An image's name or digest",
    example: "debian:bookworm",
  }),
});
const volumeParam = z.object({
  volume: z
    .string()
    .openapi({ param: { name: "volume", in: "path" }, description: "A volume's name", example: "data" }),
});
const snapshotParam = z.object({
  snapshot: z.string().openapi({
    param: { name: "snapshot", in: "path" },
    description: "A snapshot's name or id",
    example: "before-upgrade",
  }),
});
const tar = z.string().openapi({ type: "string", format: "binary", description: "A tar stream (POSIX pax)" });
const archive = z.string().openapi({
  type: "string",
  format: "binary",
  description: "A tar stream, compressed with zstd: what `hearth snapshot export` writes",
});
const flag = z.enum(["true", "false"]).optional();

const vmAction = (action: string, summary: string) =>
  createRoute({
    method: "post",
    path: `/v1/vms/{vm}/${action}`,
    operationId: `${action}Vm`,
    summary,
    request: { params: vmParam },
    responses: answers(s.vmSchema, "The VM afterwards"),
  });

const vmActionWith = <Schema extends z.ZodType>(action: string, summary: string, schema: Schema) =>
  createRoute({
    method: "post",
    path: `/v1/vms/{vm}/${action}`,
    operationId: `${action}Vm`,
    summary,
    request: { params: vmParam, body: { content: json(schema), required: true } },
    responses: answers(s.vmSchema, "The VM afterwards"),
  });

export const ROUTES = {
  listVms: createRoute({
    method: "get",
    path: "/v1/vms",
    operationId: "listVms",
    summary: "All VMs, or those that the filters choose, newest first",
    request: { query: vmFilterQuery },
    responses: answers(z.array(s.vmSchema), "The VMs"),
  }),
  createVm: createRoute({
    method: "post",
    path: "/v1/vms",
    operationId: "createVm",
    summary: "Create a VM; it is not started",
    request: body(s.createVmSchema),
    responses: made(s.vmSchema, "The new VM"),
  }),
  showVm: createRoute({
    method: "get",
    path: "/v1/vms/{vm}",
    operationId: "showVm",
    summary: "One VM",
    request: { params: vmParam },
    responses: answers(s.vmSchema, "The VM"),
  }),
  setVm: createRoute({
    method: "patch",
    path: "/v1/vms/{vm}",
    operationId: "setVm",
    summary: "Change CPUs, memory, disk size, limits or labels; of a VM that runs, limits, labels and memory",
    request: { params: vmParam, ...body(s.setVmSchema) },
    responses: answers(s.vmSchema, "The VM afterwards"),
  }),
  removeVm: createRoute({
    method: "delete",
    path: "/v1/vms/{vm}",
    operationId: "removeVm",
    summary: "Remove a VM with its disk; with force, also one that runs",
    request: { params: vmParam, query: z.object({ force: flag }) },
    responses: done,
  }),
  startVm: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/start",
    operationId: "startVm",
    summary: "Boot a VM, or let it go on where it was saved; answers when its agent does",
    request: { params: vmParam, query: z.object({ fresh: flag }) },
    responses: answers(s.vmSchema, "The VM afterwards"),
  }),
  stopVm: vmActionWith("stop", "Flush and power off the guest; after the time, end the VMM", s.stopSchema),
  restartVm: vmActionWith("restart", "Stop, if it runs, and start", s.stopSchema),
  killVm: vmActionWith("kill", "End the VMM without asking the guest", s.killSchema),
  pauseVm: vmAction("pause", "Halt the vCPUs"),
  resumeVm: vmAction("resume", "Let the vCPUs go on, or wake one that is suspended"),
  suspendVm: vmAction("suspend", "Save the memory to the disk and end the VMM"),
  forkVm: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/fork",
    operationId: "forkVm",
    summary: "Make running copies of a VM that runs",
    request: { params: vmParam, ...body(s.forkSchema) },
    responses: made(z.array(s.vmSchema), "The copies"),
  }),
  vmStats: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/stats",
    operationId: "vmStats",
    summary: "What a VM uses of the host",
    request: { params: vmParam },
    responses: answers(s.vmStatsSchema, "One reading"),
  }),
  vmLogs: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/logs",
    operationId: "vmLogs",
    summary: "The guest's console or the VMM's own log",
    request: {
      params: vmParam,
      query: z.object({
        source: z.enum(["console", "vmm"]).optional(),
        follow: flag,
        lines: z
          .string()
          .regex(/^\d{1,7}$/)
          .optional(),
      }),
    },
    responses: { 200: { description: "Text", content: { "text/plain": { schema: z.string() } } }, ...fails },
  }),
  readFiles: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/files",
    operationId: "readFiles",
    summary: "A file or directory of the guest as tar",
    request: { params: vmParam, query: z.object({ path: z.string() }) },
    responses: {
      200: { description: "A tar stream", content: { "application/x-tar": { schema: tar } } },
      ...fails,
    },
  }),
  writeFiles: createRoute({
    method: "put",
    path: "/v1/vms/{vm}/files",
    operationId: "writeFiles",
    summary: "Unpack a tar stream into a directory of the guest",
    request: {
      params: vmParam,
      query: z.object({ path: z.string(), parents: flag }),
      body: { content: { "application/x-tar": { schema: tar } }, required: true },
    },
    responses: answers(z.object({ entries: z.int(), bytes: z.int() }), "What was unpacked"),
  }),
  listImages: createRoute({
    method: "get",
    path: "/v1/images",
    operationId: "listImages",
    summary: "The images in the cache",
    responses: answers(z.array(s.imageSchema), "The images"),
  }),
  buildImage: createRoute({
    method: "post",
    path: "/v1/images",
    operationId: "buildImage",
    summary: "Build an image, or find it built",
    request: body(z.strictObject({ ref: s.imageRef, fresh: z.boolean().optional() })),
    responses: answers(s.imageSchema, "The image"),
  }),
  showImage: createRoute({
    method: "get",
    path: "/v1/images/{ref}",
    operationId: "showImage",
    summary: "One image",
    request: { params: refParam },
    responses: answers(s.imageSchema, "The image"),
  }),
  removeImage: createRoute({
    method: "delete",
    path: "/v1/images/{ref}",
    operationId: "removeImage",
    summary: "Remove an image that no VM uses",
    request: { params: refParam },
    responses: done,
  }),
  listKernels: createRoute({
    method: "get",
    path: "/v1/kernels",
    operationId: "listKernels",
    summary: "The kernels in the cache",
    responses: answers(z.array(s.kernelSchema), "The kernels"),
  }),
  attachVolume: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/volumes",
    operationId: "attachVolume",
    summary: "Give a VM one volume more, from its next start on",
    request: { params: vmParam, ...body(volumeMountSchema) },
    responses: answers(s.vmSchema, "The VM afterwards"),
  }),
  detachVolume: createRoute({
    method: "delete",
    path: "/v1/vms/{vm}/volumes/{volume}",
    operationId: "detachVolume",
    summary: "Take a volume from a VM, from its next start on; its data stays",
    request: { params: vmParam.extend(volumeParam.shape) },
    responses: answers(s.vmSchema, "The VM afterwards"),
  }),
  listVolumes: createRoute({
    method: "get",
    path: "/v1/volumes",
    operationId: "listVolumes",
    summary: "The volumes, by name",
    request: { query: volumeFilterQuery },
    responses: answers(z.array(volumeSchema), "The volumes"),
  }),
  createVolume: createRoute({
    method: "post",
    path: "/v1/volumes",
    operationId: "createVolume",
    summary: "Make a volume: empty, or with the content of a directory that hearthd can read",
    request: body(createVolumeSchema),
    responses: made(volumeSchema, "The new volume"),
  }),
  showVolume: createRoute({
    method: "get",
    path: "/v1/volumes/{volume}",
    operationId: "showVolume",
    summary: "One volume",
    request: { params: volumeParam },
    responses: answers(volumeSchema, "The volume"),
  }),
  removeVolume: createRoute({
    method: "delete",
    path: "/v1/volumes/{volume}",
    operationId: "removeVolume",
    summary: "Remove a volume that no VM names, with its data",
    request: { params: volumeParam },
    responses: done,
  }),
  listSnapshots: createRoute({
    method: "get",
    path: "/v1/snapshots",
    operationId: "listSnapshots",
    summary: "All snapshots, or those that the filters choose, newest first",
    request: { query: snapshotFilterQuery },
    responses: answers(z.array(snapshotSchema), "The snapshots"),
  }),
  createSnapshot: createRoute({
    method: "post",
    path: "/v1/snapshots",
    operationId: "createSnapshot",
    summary: "Save a VM: its disk, and its memory if it runs",
    request: body(createSnapshotSchema),
    responses: made(snapshotSchema, "The new snapshot"),
  }),
  showSnapshot: createRoute({
    method: "get",
    path: "/v1/snapshots/{snapshot}",
    operationId: "showSnapshot",
    summary: "One snapshot",
    request: { params: snapshotParam },
    responses: answers(snapshotSchema, "The snapshot"),
  }),
  removeSnapshot: createRoute({
    method: "delete",
    path: "/v1/snapshots/{snapshot}",
    operationId: "removeSnapshot",
    summary: "Remove a snapshot that no VM maps",
    request: { params: snapshotParam },
    responses: done,
  }),
  restoreSnapshot: createRoute({
    method: "post",
    path: "/v1/snapshots/{snapshot}/restore",
    operationId: "restoreSnapshot",
    summary: "Put the VM that was saved back to where it was",
    request: { params: snapshotParam },
    responses: answers(s.vmSchema, "The VM afterwards"),
  }),
  exportSnapshot: createRoute({
    method: "get",
    path: "/v1/snapshots/{snapshot}/archive",
    operationId: "exportSnapshot",
    summary: "A snapshot as one file, which another host takes",
    request: { params: snapshotParam },
    responses: {
      200: { description: "The archive", content: { "application/zstd": { schema: archive } } },
      ...fails,
    },
  }),
  importSnapshot: createRoute({
    method: "post",
    path: "/v1/snapshots/import",
    operationId: "importSnapshot",
    summary: "A snapshot from an archive, under the name that it had or another one",
    request: {
      query: z.object({ name: z.string().optional().openapi({ description: "What to call it, instead" }) }),
      body: { content: { "application/zstd": { schema: archive } }, required: true },
    },
    responses: made(snapshotSchema, "The new snapshot"),
  }),
  listWarm: createRoute({
    method: "get",
    path: "/v1/warm",
    operationId: "listWarm",
    summary: "The warm templates, newest first",
    responses: answers(z.array(snapshotSchema), "The templates"),
  }),
  buildWarm: createRoute({
    method: "post",
    path: "/v1/warm",
    operationId: "buildWarm",
    summary: "Make the warm template from which such a VM would start, or find it made",
    request: body(s.createVmSchema),
    responses: answers(snapshotSchema, "The template"),
  }),
  removeWarm: createRoute({
    method: "delete",
    path: "/v1/warm/{snapshot}",
    operationId: "removeWarm",
    summary: "Remove a warm template that no VM maps",
    request: { params: snapshotParam },
    responses: done,
  }),
  pruneWarm: createRoute({
    method: "post",
    path: "/v1/warm/prune",
    operationId: "pruneWarm",
    summary: "Remove all warm templates that no VM maps",
    responses: answers(z.object({ removed: z.int() }), "How many"),
  }),
  listFirecrackers: createRoute({
    method: "get",
    path: "/v1/firecracker",
    operationId: "listFirecrackers",
    summary: "The Firecrackers that hearthd finds, in the order in which it tries them",
    responses: answers(z.array(s.firecrackerSchema), "The Firecrackers"),
  }),
  installFirecracker: createRoute({
    method: "post",
    path: "/v1/firecracker",
    operationId: "installFirecracker",
    summary: "Install a release of Firecracker, the newest unless told, or find it installed",
    request: body(z.strictObject({ version: z.string().max(32).optional() })),
    responses: answers(s.installationSchema, "Where it is"),
  }),
  ...LOST_FOUND_ROUTES,
  ...OPERATION_ROUTES,
  doctor: createRoute({
    method: "get",
    path: "/v1/doctor",
    operationId: "doctor",
    summary: "What this host can do, with a fix for what it cannot",
    request: { query: z.object({ fresh: flag, production: flag }) },
    responses: answers(s.doctorSchema, "The checks"),
  }),
  daemon: createRoute({
    method: "get",
    path: "/v1/daemon",
    operationId: "daemon",
    summary: "hearthd itself",
    responses: answers(s.daemonSchema, "Its state"),
  }),
  stopDaemon: createRoute({
    method: "post",
    path: "/v1/daemon/stop",
    operationId: "stopDaemon",
    summary: "End hearthd; VMs keep running",
    responses: done,
  }),
} as const;
