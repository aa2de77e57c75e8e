import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import { checkTargets } from "#helper/pasta-program.ts";
import { privateNetworksOf, targetOf } from "#model/network-policy.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * Checks the network of a VM, its policy, and its published ports. Returns the spec.
 * @throws HearthError `feature.missing` for a network that VMs of this hearthd, or without a jail, cannot have;
 * `input.invalid` for a policy or published ports where there is no network that they could be for
 */
export function checkNetwork({ limitations }: Pick<Host, "limitations">, spec: VmSpec): VmSpec {
  const { network, policy, publish = [], networks = [], isolation } = spec;
  if (network !== "nat") {
    if (networks.length > 0)
      throw new HearthError(
        "input.invalid",
        `networks: a VM with the network ${network} is on no private network.`,
        { hint: "Use --network nat, or leave --join out." },
      );
    if (publish.length > 0)
      throw new HearthError(
        "input.invalid",
        `publish: a VM with the network ${network} publishes no ports.`,
        {
          hint: "Use --network nat, or leave --publish out.",
        },
      );
    if (policy === undefined) return spec;
    throw new HearthError("input.invalid", `policy: the network ${network} has none.`, {
      hint: "Use --network nat, or leave the policy out.",
    });
  }
  checkPrivateRules(spec);
  if (limitations.network !== undefined)
    throw new HearthError("feature.missing", limitations.network, {
      hint: "`hearth doctor` says how to change that. Or use --network none.",
    });
  if (limitations.uid !== undefined) checkTargets(publish);
  const takesRoot = policy?.rules.some((rule) => ["domain", "host"].includes(targetOf(rule).kind)) === true;
  if (limitations.domains !== undefined && (takesRoot || networks.length > 0))
    throw new HearthError("feature.missing", limitations.domains, {
      hint: "Allow networks (--allow-cidr), or run hearthd beside a helper that is root: docs/helper.md.",
    });
  if (isolation.jail) return spec;
  throw new HearthError(
    "feature.missing",
    "network: nat takes a jail, because its card belongs to the uid of the VM.",
    { hint: "Leave --no-jail out, or use --network none." },
  );
}

/** Checks that rules are about private networks that the VM is on. @throws HearthError `input.invalid` */
function checkPrivateRules({ policy, networks = [] }: VmSpec): void {
  if (policy === undefined) return;
  const { names, any } = privateNetworksOf(policy);
  const missing = names.find((name) => !networks.includes(name));
  if (missing !== undefined)
    throw new HearthError("input.invalid", `policy: the VM is not on the private network ${missing}.`, {
      hint: "Use --join, or leave the rule out.",
    });
  if (!any || networks.length > 0) return;
  throw new HearthError(
    "input.invalid",
    "policy: a rule for a VM takes a private network that both are on.",
    {
      hint: "Use --join, or leave the rule out.",
    },
  );
}
