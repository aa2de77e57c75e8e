/** Checks what the networks of VMs are to be, and what they take. Pure. */
import { isIPv4 } from "node:net";
import { HearthError } from "#base/error.ts";
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import type { LearnedAddress, Names } from "#helper/policy-program.ts";
import { parseVmName } from "#model/ids.ts";
import { checkPolicy, domainOf } from "#model/network-policy.ts";
import { checkPrivateNetworks } from "#model/private-network.ts";
import { checkPublished } from "#model/published-port.ts";
import type { RateLimit } from "#model/rate-limit.ts";

/** Tells whether a policy has domains. */
export function hasDomains(enforced: EnforcedPolicy): boolean {
  return enforced.policy.rules.some((rule) => domainOf(rule) !== undefined);
}

/** Tells whether the VM is on private networks. */
export function isOnPrivate({ networks = [] }: EnforcedPolicy): boolean {
  return networks.length > 0;
}

/** Tells whether the namespace has a resolver of its own. */
export function hasResolver(enforced: EnforcedPolicy): boolean {
  return hasDomains(enforced) || isOnPrivate(enforced);
}

export function namesOf(enforced: EnforcedPolicy, learned: readonly LearnedAddress[] = []): Names {
  if (hasResolver(enforced)) return { kind: "answered", resolver: enforced.resolver, learned };
  const { resolver } = enforced;
  return resolver === undefined ? { kind: "none" } : { kind: "forwarded", resolver };
}

function invalid(what: string, value: unknown): HearthError {
  return new HearthError("input.invalid", `${what} ${JSON.stringify(value)} is refused.`);
}

/** @throws HearthError `input.invalid`, and `feature.missing` for domains that no resolver could answer */
export function checkEnforced(enforced: EnforcedPolicy): void {
  const { policy, resolver, networks = [] } = enforced;
  checkPrivateNetworks(networks);
  if (resolver !== undefined && !isIPv4(resolver)) throw invalid("The resolver", resolver);
  checkPolicy(policy);
  if (!hasDomains(enforced) || resolver !== undefined) return;
  throw new HearthError("feature.missing", "A policy with domains needs a resolver that VMs can ask.", {
    hint: "Add one to /etc/resolv.conf that is not on the host's loopback.",
  });
}

/** Checks what becomes a part of a program. @throws HearthError as `checkEnforced` */
export function checkNetwork({
  mac,
  name,
  publish: ports = [],
  limit = {},
  ...enforced
}: GuestNetwork): void {
  if (!/^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) throw invalid("The MAC address", mac);
  if (name !== undefined) parseVmName(name);
  checkEnforced(enforced);
  checkPublished(ports);
  checkLimit(limit);
}

/** Checks a limit, which may have no rates. @throws HearthError `input.invalid` */
export function checkLimit(limit: RateLimit): void {
  for (const value of Object.values(limit))
    if (value !== undefined && (!Number.isSafeInteger(value) || value <= 0))
      throw new HearthError("input.invalid", `net-limit: ${value} is no rate.`);
}
