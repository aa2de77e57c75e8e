import { ROUTES } from "#api/routes.ts";
import { HearthError } from "#base/error.ts";
import { completeSpec } from "#daemon/spec/complete-spec.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { snapshotView } from "#daemon/view/snapshot-view.ts";

/** Adds the routes of templates, which hearthd makes by itself. */
export function addTemplateRoutes(api: Api, daemon: Daemon): void {
  const { host, snapshots, templates } = daemon;

  api.openapi(ROUTES.listTemplates, async (c) =>
    c.json(await Promise.all(templates.list().map((one) => snapshotView(host, snapshots, one))), 200),
  );
  api.openapi(ROUTES.buildTemplate, async (c) => {
    const call = requestOf(c);
    const made = await templates.build(await completeSpec(host, c.req.valid("json"), call), call);
    if (made === undefined)
      throw new HearthError("feature.missing", "This VM configuration cannot use templates.", {
        hint: "Check warm.enabled in config.toml; docs/snapshots.md lists the other conditions.",
      });
    return c.json(await snapshotView(host, snapshots, made), 200);
  });
  api.openapi(ROUTES.removeTemplate, async (c) => {
    await snapshots.remove(c.req.valid("param").snapshot, "warm");
    return c.body(null, 204);
  });
  api.openapi(ROUTES.pruneTemplates, async (c) => c.json({ removed: await templates.prune() }, 200));
}
