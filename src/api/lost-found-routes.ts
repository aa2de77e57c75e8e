/** The routes of `lost+found`: directories that hearthd's store does not know; see docs/lost-and-found.md. */
import { createRoute, z } from "@hono/zod-openapi";
import { answers, body } from "#api/route-parts.ts";
import { imageRef, vmName } from "#api/vm-fields.ts";
import { vmSchema } from "#api/vm-view-schemas.ts";

export const lostEntrySchema = z
  .object({
    kind: z.enum(["vms", "snapshots", "volumes"]).describe("What the directory was for"),
    name: z
      .string()
      .describe(
        "Name of its former directory, with a number if that name was taken. For VMs and snapshots this is their ID",
      ),
    day: z.string().describe("Day on which it was found, such as 2026-11-27"),
    path: z.string().describe("Path of the directory"),
    hasDisk: z.boolean().describe("True if a VM can be created with its disk"),
  })
  .openapi("LostEntry");

export const recoverVmSchema = z
  .strictObject({
    name: vmName.describe("Name of the new VM"),
    image: imageRef.describe("Image that the lost VM was created from"),
  })
  .openapi("RecoverVm");

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
