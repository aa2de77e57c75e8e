/** The routes of `lost+found`: directories that hearthd's store does not know; see docs/lost-and-found.md. */
import { createRoute, z } from "@hono/zod-openapi";
import { answers, body } from "#api/route-parts.ts";
import { imageRef, vmName, vmSchema } from "#api/schemas.ts";

export const lostEntrySchema = z
  .object({
    kind: z.enum(["vms", "snapshots", "volumes"]),
    /** The name of its directory, which for VMs and snapshots is their id. */
    name: z.string(),
    /** The day on which it was found, such as 2026-11-27. */
    day: z.string(),
    path: z.string(),
    /** True if a VM can be created with its disk. */
    hasDisk: z.boolean(),
  })
  .openapi("LostEntry");

export const recoverVmSchema = z.strictObject({ name: vmName, image: imageRef }).openapi("RecoverVm");

const lostParam = z.object({
  lost: z.string().openapi({
    param: { name: "lost", in: "path" },
    description: "Name of the directory of a VM in lost+found",
    example: "vm-ns27z2jmddvf",
  }),
});

export const LOST_FOUND_ROUTES = {
  listLostFound: createRoute({
    method: "get",
    path: "/v1/lost-found",
    operationId: "listLostFound",
    summary: "List the directories in lost+found, newest first",
    responses: answers(z.array(lostEntrySchema), "The directories"),
  }),
  recoverLostVm: createRoute({
    method: "post",
    path: "/v1/lost-found/{lost}/recover",
    operationId: "recoverLostVm",
    summary: "Create a VM with a disk from lost+found, without starting it",
    request: { params: lostParam, ...body(recoverVmSchema) },
    responses: answers(vmSchema, "The new VM"),
  }),
} as const;
