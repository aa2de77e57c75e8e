import { HearthError } from "#base/error.ts";
import type { CreateVm, SetVm } from "#api/wire.ts";
import type { Host } from "#daemon/host.ts";
import { namedPolicy } from "#model/policy-presets.ts";

/**
 * Returns the request with the policy that it names. The VM keeps this policy, whatever config.toml says later.
 * @throws HearthError `input.invalid` for a name without a policy, and for a policy besides the name
 */
export function withNamedPolicy<Request extends Pick<CreateVm | SetVm, "policy" | "policyName">>(
  { config }: Pick<Host, "config">,
  { policyName: name, ...request }: Request,
): Omit<Request, "policyName"> {
  if (name === undefined) return request;
  if (request.policy !== undefined)
    throw new HearthError("input.invalid", "policyName: cannot be given with a policy.", {
      hint: "Leave one of them out.",
    });
  return { ...request, policy: namedPolicy(name, config.network.policies) };
}
