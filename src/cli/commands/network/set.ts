import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { formatRule, policyOf } from "#model/policy-flags.ts";
import { command } from "#cli/command.ts";
import { hasRules, POLICY_FLAGS, rulesOf } from "#cli/vm-flags.ts";

const NETWORKS = ["nat", "allow-all", "deny-all"] as const;

export default command({
  path: ["network", "set"],
  summary: "Replace the network policy of a VM",
  about:
    "The new policy replaces all rules of the old one, also of a VM that runs: at once, and for open " +
    "connections. A connection that is no longer allowed is reset.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: {
    network: {
      value: "KIND",
      choices: NETWORKS,
      default: "nat",
      help: "What no rule names: nat: public addresses; allow-all, deny-all: everything or nothing",
    },
    ...POLICY_FLAGS,
  },
  examples: [
    ["hearth network set web --network deny-all --allow-cidr 10.20.0.0/16:5432", "Allow one database"],
    ["hearth network set web --network nat", "Allow public addresses only"],
  ],
  async run({ args, flags, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const { network } = flags;
    if (network === undefined && !hasRules(flags))
      throw new HearthError("input.invalid", "network set: nothing to change.", {
        hint: `Write, for instance, \`hearth network set ${name} --network deny-all\`.`,
      });
    const base = network === "allow-all" || network === "deny-all" ? network : "internet";
    const policy = policyOf({ base, ...rulesOf(flags) });
    const vm = await (await hearth()).vm(name).set({ policy });
    if (out.wantsJson) return out.json(vm);
    for (const rule of policy.rules) out.line(formatRule(rule));
    out.line(`${policy.default} other public addresses`);
  },
});
