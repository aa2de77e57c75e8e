import type { Daemon } from "#daemon/daemon.ts";
import type { Host } from "#daemon/host.ts";
import { Snapshots } from "#daemon/snapshots.ts";
import { Vms } from "#daemon/vms.ts";
import { WarmTemplates } from "#daemon/warm-templates.ts";

/** What `runDaemon` makes of a host. */
export function fakeDaemonParts(host: Host, vms = new Vms(host)): Pick<Daemon, "vms" | "snapshots" | "warm"> {
  const snapshots = new Snapshots(host, vms);
  return { vms, snapshots, warm: new WarmTemplates(host, vms, snapshots) };
}
