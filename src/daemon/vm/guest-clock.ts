import type { Guest, Host } from "#daemon/host.ts";
import type { Configured } from "#guest/agent-client.ts";
import type { GuestIdentity } from "#guest/guest-identity.ts";

/** A clock is behind by what the time took to arrive, which is at most what the answer took. */
const LATE_MAX_MS = 100;
/** A host so busy that none of them was fast enough sets the clock as well as it can. */
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
