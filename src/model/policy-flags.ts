/** Parses and formats network policies as the CLI's flags have them. */
import { HearthError } from "#base/error.ts";
import { checkPolicy } from "#model/network-policy.ts";
import type { NetworkPolicy, PolicyRule } from "#model/network-policy.ts";

/** Every IPv4 address, for a policy that allows all. */
const EVERYWHERE = "0.0.0.0/0";

/** The flags of a network policy. Networks are as in `parseRule`. */
export type PolicyFlags = {
  readonly base: "internet" | "allow-all" | "deny-all";
  readonly allow: readonly string[];
  readonly deny: readonly string[];
};

/** Returns the policy that flags describe: what is denied wins over what is allowed. @throws HearthError `input.invalid` */
export function policyOf({ base, allow, deny }: PolicyFlags): NetworkPolicy {
  const rules = [
    ...deny.map((text) => parseRule("deny", text)),
    ...allow.map((text) => parseRule("allow", text)),
    ...(base === "allow-all" ? [{ action: "allow", to: EVERYWHERE } as const] : []),
  ];
  return checkPolicy({ default: base === "deny-all" ? "deny" : "allow", rules });
}

/** Parses `ADDRESS[/BITS][:PORT[-PORT][/udp]]`; with a port, the protocol is tcp if none is given. */
export function parseRule(action: PolicyRule["action"], text: string): PolicyRule {
  const parts = /^([\d.]+)(\/\d+)?(?::(\d+)(?:-(\d+))?(?:\/(tcp|udp))?)?$/.exec(text);
  if (parts === null)
    throw new HearthError("input.invalid", `${action}-cidr: ${JSON.stringify(text)} is not a network.`, {
      hint: "Write an IPv4 network, and ports if only some are meant: 10.20.0.0/16 or 10.20.0.0/16:5432-5433.",
    });
  const [, address = "", bits = "/32", first, last = first, protocol = "tcp"] = parts;
  const rule = { action, to: `${address}${bits}` };
  if (first === undefined || last === undefined) return rule;
  const ports = { first: Number(first), last: Number(last) };
  return { ...rule, protocol: protocol as "tcp" | "udp", ports };
}

/** Formats a rule, such as `allow 10.20.0.0/16:5432-5433/tcp`. */
export function formatRule({ action, to, protocol, ports }: PolicyRule): string {
  const range = ports && (ports.first === ports.last ? String(ports.first) : `${ports.first}-${ports.last}`);
  return `${action} ${to}${range === undefined ? "" : `:${range}`}${protocol === undefined ? "" : `/${protocol}`}`;
}
