/** The routes of snapshots and templates. */
import { createRoute, z } from "@hono/zod-openapi";
import { answers, body, done, fails, made, pathText } from "#api/route-parts.ts";
import { createSnapshotSchema, snapshotFilterQuery, snapshotSchema } from "#api/snapshot-schemas.ts";
import { createVmSchema } from "#api/vm-schemas.ts";
import { vmSchema } from "#api/vm-view-schemas.ts";

const snapshotParam = z.object({
  snapshot: pathText("snapshot", "Name or ID of the snapshot", "before-upgrade"),
});
const archive = z.string().openapi({
  type: "string",
  format: "binary",
  description: "An archive of a snapshot: tar, zstd",
});

export const SNAPSHOT_ROUTES = {
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
    summary: "Create a snapshot of a VM: its disk, and its memory if it is running or paused",
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
    summary:
      "Restore the snapshot in the VM that it was created from. Its VMM is killed, and everything written to its disk since the snapshot is lost",
    request: { params: snapshotParam },
    responses: answers(vmSchema, "The VM after the change"),
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
    summary: "Build the template for VMs with these settings, if it does not exist",
    request: body(createVmSchema),
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
    responses: answers(
      z.object({ removed: z.int().describe("Number of removed templates") }),
      "The number of removed templates",
    ),
  }),
} as const;
