import { ROUTES } from "#api/routes.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { networkView } from "#daemon/view/network-view.ts";
import { portsView } from "#daemon/view/ports-view.ts";
import { testNetwork } from "#daemon/vm/test-network.ts";

/** Adds the routes about the networks of VMs. */
export function addNetworkRoutes(api: Api, { host, vms }: Daemon): void {
  api.openapi(ROUTES.vmNetwork, async (c) => {
    const vm = host.store.getVm(c.req.valid("param").vm);
    const wantsRules = c.req.valid("query").rules === "true";
    return c.json(await networkView(host, vm, wantsRules, requestOf(c).signal), 200);
  });
  api.openapi(ROUTES.vmPorts, async (c) => {
    const { signal } = requestOf(c);
    const { vm, guest } = await vms.guest(c.req.valid("param").vm, "exec", signal);
    using _use = vms.uses.begin(vm.id);
    return c.json(portsView(vm, await guest.listPorts(signal)), 200);
  });
  api.openapi(ROUTES.testNetwork, async (c) => {
    const { signal } = requestOf(c);
    const { vm, guest } = await vms.guest(c.req.valid("param").vm, "exec", signal);
    using _use = vms.uses.begin(vm.id);
    return c.json(await testNetwork(vm, guest, c.req.valid("json"), signal), 200);
  });
}
