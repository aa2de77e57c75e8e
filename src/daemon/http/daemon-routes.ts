import { ROUTES } from "#api/routes.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { runChecks } from "#daemon/doctor/doctor.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { handleOf } from "#model/vm-state.ts";

/** Adds the routes about hearthd itself: status, stop, doctor. */
export function addDaemonRoutes(api: Api, daemon: Daemon): void {
  const { host } = daemon;
  api.openapi(ROUTES.daemon, (c) => {
    const vms = host.store.listVms();
    return c.json(
      {
        version: daemon.version,
        pid: process.pid,
        startedAtMs: daemon.startedAtMs,
        rssBytes: process.memoryUsage.rss(),
        vms: vms.length,
        running: vms.filter((vm) => handleOf(vm.state) !== undefined).length,
        dirs: host.dirs,
      },
      200,
    );
  });
  api.openapi(ROUTES.stopDaemon, (c) => {
    daemon.ending.begin("asked over the API");
    return c.body(null, 204);
  });
  api.openapi(ROUTES.doctor, async (c) => {
    const { fresh, production } = c.req.valid("query");
    const options = { fresh: fresh === "true", production: production === "true" };
    return c.json(await runChecks(daemon, options, requestOf(c).signal), 200);
  });
}
