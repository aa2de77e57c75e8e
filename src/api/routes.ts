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

const pathText = (name: string, description: string, example: string) =>
  z.string().openapi({ param: { name, in: "path" }, description, example });

const vmParam = z.object({
  vm: pathText("vm", "Name or ID of the VM", "web-1"),
});
const refParam = z.object({
  ref: s.imageRef.openapi({
    param: { name: "ref", in: "path" },
    description: "Name or digest of the image",
    example: "debian:bookworm",
  }),
});
const volumeParam = z.object({
  volume: pathText("volume", "Name of the volume", "data"),
});
const snapshotParam = z.object({
  snapshot: pathText("snapshot", "Name or ID of the snapshot", "before-upgrade"),
});
const tar = z.string().openapi({ type: "string", format: "binary", description: "A tar stream (POSIX pax)" });
const archive = z.string().openapi({
  type: "string",
  format: "binary",
  description: "An archive of a snapshot: tar, zstd",
});
const flag = z.enum(["true", "false"]).optional();

const vmAction = (action: string, summary: string) =>
  createRoute({
    method: "post",
    path: `/v1/vms/{vm}/${action}`,
    operationId: `${action}Vm`,
    summary,
    request: { params: vmParam },
    responses: answers(s.vmSchema, "The VM after the change"),
  });

const vmActionWith = <Schema extends z.ZodType>(action: string, summary: string, schema: Schema) =>
  createRoute({
    method: "post",
    path: `/v1/vms/{vm}/${action}`,
    operationId: `${action}Vm`,
    summary,
    request: { params: vmParam, body: { content: json(schema), required: true } },
    responses: answers(s.vmSchema, "The VM after the change"),
  });

export const ROUTES = {
  listVms: createRoute({
    method: "get",
    path: "/v1/vms",
    operationId: "listVms",
    summary: "List VMs, newest first",
    request: { query: vmFilterQuery },
    responses: answers(z.array(s.vmSchema), "The VMs"),
  }),
  createVm: createRoute({
    method: "post",
    path: "/v1/vms",
    operationId: "createVm",
    summary: "Create a VM, without starting it",
    request: body(s.createVmSchema),
    responses: made(s.vmSchema, "The new VM"),
  }),
  showVm: createRoute({
    method: "get",
    path: "/v1/vms/{vm}",
    operationId: "showVm",
    summary: "Show a VM",
    request: { params: vmParam },
    responses: answers(s.vmSchema, "The VM"),
  }),
  setVm: createRoute({
    method: "patch",
    path: "/v1/vms/{vm}",
    operationId: "setVm",
    summary: "Change a VM; CPUs, disk size and more memory only while it is stopped",
    request: { params: vmParam, ...body(s.setVmSchema) },
    responses: answers(s.vmSchema, "The VM after the change"),
  }),
  removeVm: createRoute({
    method: "delete",
    path: "/v1/vms/{vm}",
    operationId: "removeVm",
    summary: "Remove a VM and its disk; a running VM only with force",
    request: { params: vmParam, query: z.object({ force: flag }) },
    responses: done,
  }),
  startVm: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/start",
    operationId: "startVm",
    summary: "Start a VM, or resume a suspended one, and wait until its guest agent answers",
    request: { params: vmParam, query: z.object({ fresh: flag }) },
    responses: answers(s.vmSchema, "The VM after the change"),
  }),
  stopVm: vmActionWith(
    "stop",
    "Shut the guest down; kill the VMM if that takes longer than the timeout",
    s.stopSchema,
  ),
  restartVm: vmActionWith("restart", "Stop the VM if it is running, and start it", s.stopSchema),
  killVm: vmActionWith("kill", "Stop the VM immediately, without a guest shutdown", s.killSchema),
  pauseVm: vmAction("pause", "Pause the VM: stop its vCPUs"),
  resumeVm: vmAction("resume", "Resume a paused or suspended VM"),
  suspendVm: vmAction("suspend", "Suspend the VM: save its memory to disk and end its VMM"),
  forkVm: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/fork",
    operationId: "forkVm",
    summary: "Create running copies of a running VM",
    request: { params: vmParam, ...body(s.forkSchema) },
    responses: made(z.array(s.vmSchema), "The copies"),
  }),
  vmStats: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/stats",
    operationId: "vmStats",
    summary: "Show the resource usage of a VM",
    request: { params: vmParam },
    responses: answers(s.vmStatsSchema, "The resource usage"),
  }),
  vmLogs: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/logs",
    operationId: "vmLogs",
    summary: "Read the console of the guest, or the log of the VMM",
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
    summary: "Read a file or directory of the guest as a tar stream",
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
    summary: "Extract a tar stream into a directory of the guest",
    request: {
      params: vmParam,
      query: z.object({ path: z.string(), parents: flag }),
      body: { content: { "application/x-tar": { schema: tar } }, required: true },
    },
    responses: answers(z.object({ entries: z.int(), bytes: z.int() }), "The extracted entries"),
  }),
  listImages: createRoute({
    method: "get",
    path: "/v1/images",
    operationId: "listImages",
    summary: "List cached images",
    responses: answers(z.array(s.imageSchema), "The images"),
  }),
  buildImage: createRoute({
    method: "post",
    path: "/v1/images",
    operationId: "buildImage",
    summary: "Build an image if it is not in the cache; with fresh, build it again",
    request: body(z.strictObject({ ref: s.imageRef, fresh: z.boolean().optional() })),
    responses: answers(s.imageSchema, "The image"),
  }),
  showImage: createRoute({
    method: "get",
    path: "/v1/images/{ref}",
    operationId: "showImage",
    summary: "Show an image",
    request: { params: refParam },
    responses: answers(s.imageSchema, "The image"),
  }),
  removeImage: createRoute({
    method: "delete",
    path: "/v1/images/{ref}",
    operationId: "removeImage",
    summary: "Remove an image; fails if a VM uses it",
    request: { params: refParam },
    responses: done,
  }),
  listKernels: createRoute({
    method: "get",
    path: "/v1/kernels",
    operationId: "listKernels",
    summary: "List cached kernels",
    responses: answers(z.array(s.kernelSchema), "The kernels"),
  }),
  attachVolume: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/volumes",
    operationId: "attachVolume",
    summary: "Attach a volume to a stopped VM",
    request: { params: vmParam, ...body(volumeMountSchema) },
    responses: answers(s.vmSchema, "The VM after the change"),
  }),
  detachVolume: createRoute({
    method: "delete",
    path: "/v1/vms/{vm}/volumes/{volume}",
    operationId: "detachVolume",
    summary: "Detach a volume from a stopped VM; the volume keeps its data",
    request: { params: vmParam.extend(volumeParam.shape) },
    responses: answers(s.vmSchema, "The VM after the change"),
  }),
  listVolumes: createRoute({
    method: "get",
    path: "/v1/volumes",
    operationId: "listVolumes",
    summary: "List volumes, by name",
    request: { query: volumeFilterQuery },
    responses: answers(z.array(volumeSchema), "The volumes"),
  }),
  createVolume: createRoute({
    method: "post",
    path: "/v1/volumes",
    operationId: "createVolume",
    summary: "Create a volume: empty, or with a copy of a directory that hearthd can read",
    request: body(createVolumeSchema),
    responses: made(volumeSchema, "The new volume"),
  }),
  showVolume: createRoute({
    method: "get",
    path: "/v1/volumes/{volume}",
    operationId: "showVolume",
    summary: "Show a volume",
    request: { params: volumeParam },
    responses: answers(volumeSchema, "The volume"),
  }),
  removeVolume: createRoute({
    method: "delete",
    path: "/v1/volumes/{volume}",
    operationId: "removeVolume",
    summary: "Remove a volume and its data; fails if the volume is attached to a VM",
    request: { params: volumeParam },
    responses: done,
  }),
  listSnapshots: createRoute({
    method: "get",
    path: "/v1/snapshots",
    operationId: "listSnapshots",
    summary: "List snapshots, newest first",
    request: { query: snapshotFilterQuery },
    responses: answers(z.array(snapshotSchema), "The snapshots"),
  }),
  createSnapshot: createRoute({
    method: "post",
    path: "/v1/snapshots",
    operationId: "createSnapshot",
    summary: "Create a snapshot of a VM: its disk, and its memory if it is running",
    request: body(createSnapshotSchema),
    responses: made(snapshotSchema, "The new snapshot"),
  }),
  showSnapshot: createRoute({
    method: "get",
    path: "/v1/snapshots/{snapshot}",
    operationId: "showSnapshot",
    summary: "Show a snapshot",
    request: { params: snapshotParam },
    responses: answers(snapshotSchema, "The snapshot"),
  }),
  removeSnapshot: createRoute({
    method: "delete",
    path: "/v1/snapshots/{snapshot}",
    operationId: "removeSnapshot",
    summary: "Remove a snapshot; fails if a VM uses it",
    request: { params: snapshotParam },
    responses: done,
  }),
  restoreSnapshot: createRoute({
    method: "post",
    path: "/v1/snapshots/{snapshot}/restore",
    operationId: "restoreSnapshot",
    summary: "Restore the VM to the snapshot",
    request: { params: snapshotParam },
    responses: answers(s.vmSchema, "The VM after the change"),
  }),
  exportSnapshot: createRoute({
    method: "get",
    path: "/v1/snapshots/{snapshot}/archive",
    operationId: "exportSnapshot",
    summary: "Export a snapshot as an archive, for another host",
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
    summary: "Import a snapshot from an archive",
    request: {
      query: z.object({
        name: z.string().optional().openapi({ description: "Name, if not that of the archive" }),
      }),
      body: { content: { "application/zstd": { schema: archive } }, required: true },
    },
    responses: made(snapshotSchema, "The new snapshot"),
  }),
  listTemplates: createRoute({
    method: "get",
    path: "/v1/templates",
    operationId: "listTemplates",
    summary: "List templates, newest first",
    responses: answers(z.array(snapshotSchema), "The templates"),
  }),
  buildTemplate: createRoute({
    method: "post",
    path: "/v1/templates",
    operationId: "buildTemplate",
    summary: "Build the template for such a VM, if it does not exist",
    request: body(s.createVmSchema),
    responses: answers(snapshotSchema, "The template"),
  }),
  removeTemplate: createRoute({
    method: "delete",
    path: "/v1/templates/{snapshot}",
    operationId: "removeTemplate",
    summary: "Remove a template; fails if a VM uses it",
    request: { params: snapshotParam },
    responses: done,
  }),
  pruneTemplates: createRoute({
    method: "post",
    path: "/v1/templates/prune",
    operationId: "pruneTemplates",
    summary: "Remove all unused templates",
    responses: answers(z.object({ removed: z.int() }), "The number of removed templates"),
  }),
  listFirecrackers: createRoute({
    method: "get",
    path: "/v1/firecracker",
    operationId: "listFirecrackers",
    summary: "List Firecracker installations, in the order in which hearthd tries them",
    responses: answers(z.array(s.firecrackerSchema), "The installations"),
  }),
  installFirecracker: createRoute({
    method: "post",
    path: "/v1/firecracker",
    operationId: "installFirecracker",
    summary: "Install a release of Firecracker if it is not installed; default: the latest",
    request: body(z.strictObject({ version: z.string().max(32).optional() })),
    responses: answers(s.installationSchema, "The installation"),
  }),
  ...LOST_FOUND_ROUTES,
  ...OPERATION_ROUTES,
  doctor: createRoute({
    method: "get",
    path: "/v1/doctor",
    operationId: "doctor",
    summary: "Check this host, with fixes for problems",
    request: { query: z.object({ fresh: flag, production: flag }) },
    responses: answers(s.doctorSchema, "The checks"),
  }),
  daemon: createRoute({
    method: "get",
    path: "/v1/daemon",
    operationId: "daemon",
    summary: "Show the status of hearthd",
    responses: answers(s.daemonSchema, "The status"),
  }),
  stopDaemon: createRoute({
    method: "post",
    path: "/v1/daemon/stop",
    operationId: "stopDaemon",
    summary: "Stop hearthd; VMs keep running",
    responses: done,
  }),
} as const;
