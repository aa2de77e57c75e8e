import { setTimeout as sleep } from "node:timers/promises";
import type { Daemon } from "#daemon/daemon.ts";
import type { ApiServer } from "#daemon/http/api-server.ts";

/** hearthd ends within ten seconds; the rest of them is for telling clients, and for closing the store on a slow disk. */
const DRAIN_MS = 7_500;

/** Work of hearthd beside requests. `end` aborts it, and resolves when it has left nothing half done. */
export type Service = { end(): Promise<unknown> };

/**
 * Ends everything but the VMs, once `daemon.ending` has begun.
 *
 * @returns whether all work is done or undone. If it is not, the process has to end without another step, as by a
 * crash: what is still under way must not meet a closed store, or the next hearthd. Clients that wait for it were told.
 */
export async function drain(
  daemon: Daemon,
  server: ApiServer,
  services: readonly Service[],
  drainMs = DRAIN_MS,
): Promise<boolean> {
  const { ending, vms, host } = daemon;
  server.stopAccepting();
  const work = async (): Promise<true> => {
    const ended = await Promise.allSettled(services.map((service) => service.end()));
    for (const result of ended) {
      if (result.status === "rejected")
        host.log.event("daemon.bug", { where: "the end of hearthd", error: result.reason });
    }
    await ending.settled();
    await vms.idle();
    await server.close();
    return true;
  };
  const inTime = new AbortController();
  const late = sleep(drainMs, false as const, { signal: inTime.signal });
  late.catch(() => undefined); // All was done in time.
  try {
    if (await Promise.race([work(), late])) return true;
    ending.giveUp();
    await server.close();
    return false;
  } finally {
    inTime.abort();
  }
}
