import type { Guest, Host } from "#daemon/host.ts";
import type { Configured } from "#guest/agent-client.ts";
import type { GuestIdentity } from "#guest/guest-identity.ts";

/** The lag of a guest's clock that is accepted: the time takes at most as long to arrive as the answer takes. */
const LATE_MAX_MS = 100;
/** The number of times that a guest is told the time again. On a host that is busier, its clock stays behind. */
const TELLS_MAX = 3;

/** Configures a guest. One that was slow to answer is told the time again, because it may have heard it late. */
export async function configureGuest(
  host: Pick<Host, "now" | "uptimeMs">,
  guest: Pick<Guest, "configure" | "thaw">,
  identity: GuestIdentity,
  signal: AbortSignal,
): Promise<Configured> {
  let askedAtMs = host.uptimeMs();
  const configured = await guest.configure(identity, signal);
  for (let tells = 0; tells < TELLS_MAX && host.uptimeMs() - askedAtMs > LATE_MAX_MS; tells += 1) {
    askedAtMs = host.uptimeMs();
    await guest.thaw(host.now(), signal);
  }
  return configured;
}
