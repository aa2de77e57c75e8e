/** All routes of the API. The server implements them, and the OpenAPI document lists them. */
import { createRoute, z } from "@hono/zod-openapi";
import { vmFilterQuery } from "#api/label-schemas.ts";
import { LOST_FOUND_ROUTES } from "#api/lost-found-routes.ts";
import { NETWORK_ROUTES } from "#api/network-routes.ts";
import { packetCountSchema, trafficSchema } from "#api/network-schemas.ts";
import { OPERATION_ROUTES } from "#api/operation-routes.ts";
import { answers, body, done, fails, json, made, pathText, vmParam } from "#api/route-parts.ts";
import * as host from "#api/host-schemas.ts";
import { SNAPSHOT_ROUTES } from "#api/snapshot-routes.ts";
import {
  createVolumeSchema,
  volumeFilterQuery,
  volumeMountSchema,
  volumeSchema,
} from "#api/volume-schemas.ts";
import { imageRef, isolationChoice, policySchema, rateLimitSchema } from "#api/vm-fields.ts";
import * as vms from "#api/vm-schemas.ts";
import { vmmMetricsSchema, vmStatsSchema } from "#api/vm-stats-schemas.ts";
import { isolationInForceSchema, vmSchema } from "#api/vm-view-schemas.ts";

const refParam = z.object({
  ref: imageRef.openapi({
    param: { name: "ref", in: "path" },
    description: "Name or digest of the image",
    example: "debian:bookworm",
  }),
});
const volumeParam = z.object({
  volume: pathText("volume", "Name of the volume", "data"),
});
const tar = z.string().openapi({ type: "string", format: "binary", description: "A tar stream (POSIX pax)" });
const flag = (description: string) => z.enum(["true", "false"]).optional().describe(description);
const guestPath = "Path in the guest: absolute, or relative to the home directory of its default user";

const vmAction = (action: string, summary: string) =>
  createRoute({
    method: "post",
    path: `/v1/vms/{vm}/${action}`,
    operationId: `${action}Vm`,
    summary,
    request: { params: vmParam },
    responses: answers(vmSchema, "The VM after the change"),
  });

const vmActionWith = <Schema extends z.ZodType>(action: string, summary: string, schema: Schema) =>
  createRoute({
    method: "post",
    path: `/v1/vms/{vm}/${action}`,
    operationId: `${action}Vm`,
    summary,
    request: { params: vmParam, body: { content: json(schema), required: true } },
    responses: answers(vmSchema, "The VM after the change"),
  });

/**
 * Schemas that fields refer to, by name. They are registered before the routes: otherwise the description of the first
 * such field would become that of the schema.
 */
export const REFERENCED_SCHEMAS = {
  RateLimit: rateLimitSchema,
  NetworkPolicy: policySchema,
  IsolationChoice: isolationChoice,
  IsolationInForce: isolationInForceSchema,
  VmmMetrics: vmmMetricsSchema,
  PacketCount: packetCountSchema,
  Traffic: trafficSchema,
} as const;

export const ROUTES = {
  listVms: createRoute({
    method: "get",
    path: "/v1/vms",
    operationId: "listVms",
    summary: "List VMs, newest first",
    request: { query: vmFilterQuery },
    responses: answers(z.array(vmSchema), "The VMs"),
  }),
  createVm: createRoute({
    method: "post",
    path: "/v1/vms",
    operationId: "createVm",
    summary: "Create a VM, without starting it",
    request: body(vms.createVmSchema),
    responses: made(vmSchema, "The new VM"),
  }),
  showVm: createRoute({
    method: "get",
    path: "/v1/vms/{vm}",
    operationId: "showVm",
    summary: "Show a VM",
    request: { params: vmParam },
    responses: answers(vmSchema, "The VM"),
  }),
  setVm: createRoute({
    method: "patch",
    path: "/v1/vms/{vm}",
    operationId: "setVm",
    summary:
      "Change a VM. CPUs and disk size: only while it is stopped. Memory, limits, network policy and restart policy: also while it runs, memory up to its size at the start. Labels: always",
    request: { params: vmParam, ...body(vms.setVmSchema) },
    responses: answers(vmSchema, "The VM after the change"),
  }),
  removeVm: createRoute({
    method: "delete",
    path: "/v1/vms/{vm}",
    operationId: "removeVm",
    summary: "Remove a VM and its disk; a running VM only with force",
    request: {
      params: vmParam,
      query: z.object({
        force: flag("Also remove a VM that is running, paused or starting (default: false)"),
      }),
    },
    responses: done,
  }),
  startVm: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/start",
    operationId: "startVm",
    summary: "Start a VM, or resume a suspended one, and wait until its guest agent answers",
    request: {
      params: vmParam,
      query: z.object({
        fresh: flag(
          "Delete everything on the VM's disk and its suspended memory, and start as if it had never run; volumes stay (default: false)",
        ),
      }),
    },
    responses: answers(vmSchema, "The VM after the change"),
  }),
  stopVm: vmActionWith(
    "stop",
    "Shut the guest down; kill the VMM if that takes longer than the timeout",
    vms.stopSchema,
  ),
  restartVm: vmActionWith("restart", "Stop the VM if it is running, and start it", vms.stopSchema),
  killVm: vmActionWith(
    "kill",
    "Stop the VM immediately, without a guest shutdown; ends an operation in progress on it. A suspended VM loses its suspended memory and keeps its disk",
    vms.killSchema,
  ),
  pauseVm: vmAction("pause", "Pause the VM: stop its vCPUs"),
  resumeVm: vmAction("resume", "Resume a paused or suspended VM"),
  suspendVm: vmAction("suspend", "Suspend the VM: save its memory to disk and end its VMM"),
  forkVm: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/fork",
    operationId: "forkVm",
    summary: "Create running copies of a running or paused VM",
    request: { params: vmParam, ...body(vms.forkSchema) },
    responses: made(z.array(vmSchema), "The copies"),
  }),
  vmStats: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/stats",
    operationId: "vmStats",
    summary: "Show the resource usage of a VM",
    request: { params: vmParam },
    responses: answers(vmStatsSchema, "The resource usage"),
  }),
  ...NETWORK_ROUTES,
  vmLogs: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/logs",
    operationId: "vmLogs",
    summary: "Read the console of the guest, or the log of the VMM",
    request: {
      params: vmParam,
      query: z.object({
        source: z
          .enum(["console", "vmm"])
          .optional()
          .describe("Console of the guest, or log of the VMM (default: console)"),
        follow: flag("Keep the response open and send new lines (default: false)"),
        lines: z
          .string()
          .regex(/^\d{1,7}$/)
          .optional()
          .describe("Only the last lines, 0 to 9999999 (default: all)"),
      }),
    },
    responses: { 200: { description: "Text", content: { "text/plain": { schema: z.string() } } }, ...fails },
  }),
  readFiles: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/files",
    operationId: "readFiles",
    summary: "Read a file or directory of the guest as a tar stream",
    request: { params: vmParam, query: z.object({ path: z.string().describe(guestPath) }) },
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
      query: z.object({
        path: z.string().describe(guestPath.replace("Path", "Directory")),
        parents: flag("Create the directory and its parents (default: false)"),
      }),
      body: { content: { "application/x-tar": { schema: tar } }, required: true },
    },
    responses: answers(
      z.object({
        entries: z.int().describe("Number of files, directories and links"),
        bytes: z.int().describe("Size of the content of the files"),
      }),
      "The extracted entries",
    ),
  }),
  listImages: createRoute({
    method: "get",
    path: "/v1/images",
    operationId: "listImages",
    summary: "List cached images",
    responses: answers(z.array(host.imageSchema), "The images"),
  }),
  buildImage: createRoute({
    method: "post",
    path: "/v1/images",
    operationId: "buildImage",
    summary: "Build an image if it is not in the cache; with fresh, build it again",
    request: body(
      z.strictObject({
        ref: imageRef.describe("Name of the image, such as debian:bookworm"),
        fresh: z
          .boolean()
          .optional()
          .describe("Build again, even if the image is in the cache (default: false)"),
      }),
    ),
    responses: answers(host.imageSchema, "The image"),
  }),
  showImage: createRoute({
    method: "get",
    path: "/v1/images/{ref}",
    operationId: "showImage",
    summary: "Show an image",
    request: { params: refParam },
    responses: answers(host.imageSchema, "The image"),
  }),
  removeImage: createRoute({
    method: "delete",
    path: "/v1/images/{ref}",
    operationId: "removeImage",
    summary: "Remove an image and its templates; fails if a VM or a snapshot uses it",
    request: { params: refParam },
    responses: done,
  }),
  listKernels: createRoute({
    method: "get",
    path: "/v1/kernels",
    operationId: "listKernels",
    summary: "List cached kernels",
    responses: answers(z.array(host.kernelSchema), "The kernels"),
  }),
  attachVolume: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/volumes",
    operationId: "attachVolume",
    summary: "Attach a volume to a stopped VM",
    request: { params: vmParam, ...body(volumeMountSchema) },
    responses: answers(vmSchema, "The VM after the change"),
  }),
  detachVolume: createRoute({
    method: "delete",
    path: "/v1/vms/{vm}/volumes/{volume}",
    operationId: "detachVolume",
    summary: "Detach a volume from a stopped VM; the volume keeps its data",
    request: { params: vmParam.extend(volumeParam.shape) },
    responses: answers(vmSchema, "The VM after the change"),
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
  ...SNAPSHOT_ROUTES,
  listFirecrackers: createRoute({
    method: "get",
    path: "/v1/firecracker",
    operationId: "listFirecrackers",
    summary: "List Firecracker installations, in the order in which hearthd tries them",
    responses: answers(z.array(host.firecrackerSchema), "The installations"),
  }),
  installFirecracker: createRoute({
    method: "post",
    path: "/v1/firecracker",
    operationId: "installFirecracker",
    summary: "Install a release of Firecracker if it is not installed; default: the latest",
    request: body(
      z.strictObject({
        version: z.string().max(32).optional().describe("Version, such as 1.12.1 (default: the latest)"),
      }),
    ),
    responses: answers(host.installationSchema, "The installation"),
  }),
  ...LOST_FOUND_ROUTES,
  ...OPERATION_ROUTES,
  doctor: createRoute({
    method: "get",
    path: "/v1/doctor",
    operationId: "doctor",
    summary: "Check this host; checks that did not pass show a fix",
    request: {
      query: z.object({
        fresh: flag("Repeat checks whose results are cached (default: false)"),
        production: flag("Fail for risks between guests that do not trust each other (default: false)"),
      }),
    },
    responses: answers(host.doctorSchema, "The checks"),
  }),
  daemon: createRoute({
    method: "get",
    path: "/v1/daemon",
    operationId: "daemon",
    summary: "Show the status of hearthd",
    responses: answers(host.daemonSchema, "The status"),
  }),
  stopDaemon: createRoute({
    method: "post",
    path: "/v1/daemon/stop",
    operationId: "stopDaemon",
    summary: "Stop hearthd; VMs keep running",
    responses: done,
  }),
} as const;
