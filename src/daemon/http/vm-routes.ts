import { ROUTES } from "#api/routes.ts";
import type { Vm } from "#api/wire.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api, ApiContext } from "#daemon/http/api.ts";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import { vmView, vmViews } from "#daemon/view/vm-view.ts";
import type { RequestContext } from "#daemon/operations/request-context.ts";
import { DEFAULTS } from "#model/defaults.ts";
import { parseVmName } from "#model/ids.ts";
import { parseVmFilters } from "#model/vm-filter.ts";
import type { VmRecord } from "#model/vm.ts";

/** Adds the routes about VMs that are one request and one answer. */
export function addVmRoutes(api: Api, daemon: Daemon): void {
  const { host, vms } = daemon;
  const view = (vm: VmRecord): Promise<Vm> => vmView(host, vms, vm);
  api.openapi(ROUTES.listVms, async (c) => {
    const chosen = listChosen(daemon, [c.req.valid("query").filter ?? []].flat());
    return c.json(await vmViews(host, vms, chosen), 200);
  });
  api.openapi(ROUTES.createVm, async (c) => {
    return c.json(await view(await vms.create(c.req.valid("json"), false, requestOf(c))), 201);
  });
  api.openapi(ROUTES.showVm, async (c) => {
    return c.json(await view(host.store.getVm(c.req.valid("param").vm)), 200);
  });
  api.openapi(ROUTES.setVm, async (c) => {
    const vm = await vms.set(c.req.valid("param").vm, c.req.valid("json"), requestOf(c));
    return c.json(await view(vm), 200);
  });
  api.openapi(ROUTES.removeVm, async (c) => {
    await vms.remove(c.req.valid("param").vm, c.req.valid("query").force === "true", requestOf(c));
    return c.body(null, 204);
  });
  api.openapi(ROUTES.startVm, async (c) => {
    const fresh = c.req.valid("query").fresh === "true";
    const vm = await vms.start(c.req.valid("param").vm, requestOf(c), { fresh });
    return c.json(await view(vm), 200);
  });
  api.openapi(ROUTES.stopVm, async (c) => {
    const plan = stopPlan(c.req.valid("json"));
    return c.json(await view(await vms.stop(c.req.valid("param").vm, plan, lasting(c))), 200);
  });
  api.openapi(ROUTES.restartVm, async (c) => {
    const plan = stopPlan(c.req.valid("json"));
    return c.json(await view(await vms.restart(c.req.valid("param").vm, plan, lasting(c))), 200);
  });
  api.openapi(ROUTES.killVm, async (c) => {
    const mode = c.req.valid("json").signal === "SIGTERM" ? "terminate" : "kill";
    return c.json(await view(await vms.kill(c.req.valid("param").vm, mode, lasting(c))), 200);
  });
  api.openapi(ROUTES.pauseVm, async (c) => {
    return c.json(await view(await vms.pause(c.req.valid("param").vm, requestOf(c))), 200);
  });
  api.openapi(ROUTES.resumeVm, async (c) => {
    return c.json(await view(await vms.resume(c.req.valid("param").vm, requestOf(c))), 200);
  });
  api.openapi(ROUTES.suspendVm, async (c) => {
    const vm = await daemon.snapshots.suspend(c.req.valid("param").vm, requestOf(c));
    return c.json(await view(vm), 200);
  });
  api.openapi(ROUTES.forkVm, async (c) => {
    const { count = 1, name, autoRemove } = c.req.valid("json");
    const options = { count, name: name === undefined ? undefined : parseVmName(name), autoRemove };
    const forks = await forkVm(daemon, c.req.valid("param").vm, options, requestOf(c));
    return c.json(await vmViews(host, vms, forks), 201);
  });
  api.openapi(ROUTES.vmStats, async (c) => {
    return c.json(await daemon.stats.read(host.store.getVm(c.req.valid("param").vm)), 200);
  });
}

/** Returns the users' VMs that match all filters. */
function listChosen({ host }: Daemon, filters: readonly string[]): VmRecord[] {
  const isChosen = parseVmFilters(filters);
  const shown = host.store.listVms().filter(({ spec }) => spec.internal === undefined);
  return shown.filter(({ name, labels, state }) => isChosen({ name, labels, phase: state.phase }));
}

/** Returns a context without the client's signal: a stop that has begun is finished, also without its client. */
function lasting(context: ApiContext): RequestContext {
  context.get("running")?.makeLasting();
  return { ...requestOf(context), signal: new AbortController().signal };
}

function stopPlan({ timeoutMs = DEFAULTS.stopTimeoutMs }: { readonly timeoutMs?: number | undefined }) {
  return { mode: "graceful", timeoutMs } as const;
}
