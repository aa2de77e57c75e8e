/** Policies that have a name: those of every hearthd, and those of its config.toml. Pure. */
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { INTERNET } from "#model/network-policy.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import { policyOf } from "#model/policy-flags.ts";

/** Policies by their names. */
export type NamedPolicies = Readonly<Record<string, NetworkPolicy>>;

const NO_RULES = { allow: [], deny: [], allowDomain: [] };

export const POLICY_PRESETS: NamedPolicies = {
  internet: INTERNET,
  open: policyOf({ base: "allow-all", ...NO_RULES }),
  none: policyOf({ base: "deny-all", ...NO_RULES }),
};

/** Checks the name of a policy, and returns it. @throws HearthError `input.invalid` */
export function parsePolicyName(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) return text;
  throw new HearthError("input.invalid", `policy: ${JSON.stringify(text)} is not the name of a policy.`, {
    hint: "Names have 1 to 63 of a-z, 0-9 and -, and no - at an end. The path of a file has a / or ends in .toml.",
  });
}

/** Checks the name of a policy of config.toml. @throws HearthError `input.invalid` */
export function checkOwnName(name: string): void {
  parsePolicyName(name);
  if (!Object.hasOwn(POLICY_PRESETS, name)) return;
  throw new HearthError("input.invalid", `policy: ${name} is a policy of Hearth itself.`, {
    hint: "Choose another name.",
  });
}

/** Finds a policy by its name. @throws HearthError `input.invalid` that lists the names */
export function namedPolicy(name: string, own: NamedPolicies): NetworkPolicy {
  const all = { ...own, ...POLICY_PRESETS };
  const found = Object.hasOwn(all, name) ? all[name] : undefined;
  if (found !== undefined) return found;
  const known = [...Object.keys(POLICY_PRESETS), ...Object.keys(own)];
  const near = nearest(name, known);
  throw new HearthError("input.invalid", `policy: there is no policy ${JSON.stringify(name)}.`, {
    hint:
      `${near === undefined ? "" : `Did you mean ${near}? `}Policies are ${known.join(", ")}. ` +
      "Others are tables [network.policies.NAME] of config.toml, which hearthd reads when it starts.",
  });
}
