import { ROUTES } from "#api/routes.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { listLostFound } from "#daemon/lifecycle/lost-found.ts";
import { recoverLostVm } from "#daemon/lifecycle/recover-lost-vm.ts";
import { vmView } from "#daemon/view/vm-view.ts";

/** Adds the routes of `lost+found`. */
export function addLostFoundRoutes(api: Api, daemon: Daemon): void {
  const { host, vms } = daemon;
  api.openapi(ROUTES.listLostFound, async (c) => c.json(await listLostFound(host), 200));
  api.openapi(ROUTES.recoverLostVm, async (c) => {
    const vm = await recoverLostVm(daemon, c.req.valid("param").lost, c.req.valid("json"), requestOf(c));
    return c.json(await vmView(host, vms, vm), 200);
  });
}
