import type { MiddlewareHandler } from "hono";
import type { Daemon } from "#daemon/daemon.ts";
import { noSuchVm } from "#daemon/store/store.ts";

/**
 * Refuses internal VMs to clients, also by name: what is changed in a template's VM would be in every VM that starts
 * from the template.
 * @throws HearthError `vm.not_found`
 */
export function assertVisible({ host }: Pick<Daemon, "host">, nameOrId: string): void {
  if (host.store.findVm(nameOrId)?.spec.internal !== undefined) throw noSuchVm(nameOrId);
}

/** Makes the middleware that asserts this for every route about one VM. */
export function onlyVisible(daemon: Daemon): MiddlewareHandler {
  return async (context, next) => {
    assertVisible(daemon, context.req.param("vm") ?? "");
    await next();
  };
}
