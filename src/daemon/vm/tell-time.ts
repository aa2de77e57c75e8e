import { logWarnings } from "#daemon/vm/guest-warnings.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";

/** Sets the clock of a guest that was paused. A guest that does not answer gets the time at its next start. */
export async function tellTime({ host, id, attachment }: VmController, signal: AbortSignal): Promise<void> {
  try {
    const warnings = await attachment?.ask((guest, inTime) => guest.thaw(host.now(), inTime), signal);
    logWarnings(host, id, warnings ?? []);
  } catch (error) {
    signal.throwIfAborted();
    host.log.child({ vm: id }).event("agent.disconnected", { error });
  }
}
