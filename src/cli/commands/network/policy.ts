import type { VmNetworkView } from "#api/wire.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { parseVmName } from "#model/ids.ts";
import { deniesIpv6, domainOf } from "#model/network-policy.ts";
import { describeRule } from "#model/policy-flags.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["network", "policy"],
  summary: "Show the network policy of a VM",
  about:
    "The first rule that matches decides. While the VM runs, PACKETS and BYTES are those that each line " +
    "decided, in both directions, since the policy is in force.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: { nft: { help: "Print the nftables rules of the VM's network namespace" } },
  examples: [
    ["hearth network policy web", "Show the rules and their packets"],
    ["hearth network policy web --nft", "Show what is in force"],
  ],
  async run({ args, flags, out, hearth }) {
    const network = await (await hearth()).vm(parseVmName(args[0] ?? "")).network({ rules: flags.nft });
    if (out.wantsJson) return out.json(network);
    if (network.policy === undefined) return out.note(`The network ${network.network} has no policy.`);
    if (!flags.nft) return out.table(["RULE", "WHAT", "PACKETS", "BYTES"], rows(network, network.policy));
    if (network.nftRules === undefined) out.note("The VM does not run, so no rules are in force.");
    else out.text(network.nftRules);
  },
});

function rows({ counters }: VmNetworkView, policy: NonNullable<VmNetworkView["policy"]>): string[][] {
  type Count = NonNullable<typeof counters>["default"];
  const row = (name: string, what: string, count: Count | undefined): string[] => [
    name,
    what,
    count === undefined ? "-" : String(count.packets),
    count === undefined ? "-" : formatSizeRounded(count.bytes),
  ];
  const hasDomains = policy.rules.some((rule) => domainOf(rule) !== undefined);
  const resolver = hasDomains ? "VM" : "host";
  const names = hasDomains && policy.default === "deny" ? "names of the domains below" : "names";
  const others = deniesIpv6(policy) ? ", and IPv6" : "";
  return [
    row("-", `allow ${names}, by the resolver of the ${resolver}`, counters?.resolver),
    ...policy.rules.map((rule, index) => row(String(index + 1), describeRule(rule), counters?.rules[index])),
    row("-", "allow published ports, and programs of the host", counters?.published),
    row("-", "allow VMs on the same private networks", counters?.private),
    row("-", `deny private and other special networks${others}`, counters?.special),
    row("-", `${policy.default} other public addresses`, counters?.default),
  ];
}
