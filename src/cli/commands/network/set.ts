import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import { describeRule, policyOf } from "#model/policy-flags.ts";
import { command } from "#cli/command.ts";
import { readPolicyChoice } from "#cli/policy-choice.ts";
import { checkWholePolicy, hasRules, POLICY_FLAGS, rulesOf } from "#cli/vm-flags.ts";

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
    ["hearth network set web --policy ./office.toml", "Take the rules from a file"],
    ["hearth network set web --network nat", "Allow public addresses only"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const { network, policy: whole } = flags;
    checkWholePolicy(flags);
    if (network === undefined && whole === undefined && !hasRules(flags))
      throw new HearthError("input.invalid", "network set: nothing to change.", {
        hint: `Write, for instance, \`hearth network set ${name} --network deny-all\`.`,
      });
    const base = network === "allow-all" || network === "deny-all" ? network : "internet";
    const change =
      whole === undefined
        ? { policy: policyOf({ base, ...rulesOf(flags) }) }
        : await readPolicyChoice(whole, io);
    const vm = await (await hearth()).vm(name).set(change);
    if (out.wantsJson) return out.json(vm);
    const { policy = INTERNET } = vm;
    for (const rule of policy.rules) out.line(describeRule(rule));
    out.line(`${policy.default} other public addresses`);
  },
});
