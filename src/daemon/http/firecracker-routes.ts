import { ROUTES } from "#api/routes.ts";
import type { Firecracker } from "#api/wire.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import type { FoundFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";

/** Adds the routes that list and install Firecracker. */
export function addFirecrackerRoutes(api: Api, daemon: Daemon): void {
  const { firecrackers } = daemon.host;
  api.openapi(ROUTES.listFirecrackers, async (c) => {
    const all = await firecrackers.list(requestOf(c).signal);
    const used = all.find((one) => one.ok);
    return c.json(
      all.flatMap((one) => view(one, one === used)),
      200,
    );
  });
  api.openapi(ROUTES.installFirecracker, async (c) => {
    const { onProgress, signal } = requestOf(c);
    const { version } = c.req.valid("json");
    return c.json(await firecrackers.install(version, onProgress, signal), 200);
  });
}

function view(found: FoundFirecracker, used: boolean): Firecracker[] {
  if (found.ok) {
    const { version, source, program, jailer, ownerUid, mode } = found;
    return [{ version, source, program, jailer, ownerUid, mode, used }];
  }
  const { refused, reason, hint } = found;
  return refused === undefined ? [] : [{ ...refused, used, refused: { reason, hint } }];
}
