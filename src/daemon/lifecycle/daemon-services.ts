/** Lists the services of hearthd in the order of their start: a new one is one more entry here (`service.ts`). */
import type { Daemon } from "#daemon/daemon.ts";
import type { ApiServer } from "#daemon/http/api-server.ts";
import { RecoveryService } from "#daemon/lifecycle/recovery-service.ts";
import type { Service } from "#daemon/lifecycle/service.ts";
import { IdleVms } from "#daemon/vm/idle-vms.ts";

/** Returns the services of a hearthd that are to be started. */
export function daemonServices(daemon: Daemon, api: ApiServer): Service[] {
  const { host, vms, snapshots, templates, pools } = daemon;
  const recovery = new RecoveryService(host, vms);
  const idle = new IdleVms(host, vms, snapshots);
  return [
    { name: "store", stop: () => host.store.close() },
    recovery,
    {
      name: "VMs",
      // Requests, and hearthd's own background work, act on VMs until they have drained.
      drain: (above) => above.then(() => vms.idle()),
      stop: () => vms.detachAll(),
    },
    {
      name: "templates",
      start: () => vms.whenBooted((vm, started) => templates.booted(vm, started)),
      drain: () => templates.end(),
    },
    api,
    { name: "pools", start: () => pools.fill(), drain: () => pools.end() },
    {
      name: "restarts",
      // Only after recovery is it known which VMs are to run and do not, as after a reboot of the host.
      start: () => void recovery.done.then((isDone) => isDone && vms.restarts.begin()),
      drain: () => vms.restarts.end(),
    },
    { name: "idle suspend", start: () => idle.start(), drain: () => idle.end() },
  ];
}
