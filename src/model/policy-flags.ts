/** Parses and formats network policies as the CLI's flags have them. */
import { HearthError } from "#base/error.ts";
import { canonicalIpv6, familyOf } from "#model/ip-address.ts";
import { CHECKED_PORTS, checkDomain, checkPolicy, networkFamily } from "#model/network-policy.ts";
import type { NetworkPolicy, PolicyRule } from "#model/network-policy.ts";

/** Every address, for a policy that allows all. */
const EVERYWHERE = ["0.0.0.0/0", "::/0"] as const;

/** The flags of a network policy. Networks and domains are as in `parseRule` and `parseDomainRule`. */
export type PolicyFlags = {
  readonly base: "internet" | "allow-all" | "deny-all";
  readonly allow: readonly string[];
  readonly deny: readonly string[];
  readonly allowDomain: readonly string[];
};

/** Returns the policy that flags describe: what is denied wins over what is allowed. @throws HearthError `input.invalid` */
export function policyOf({ base, allow, deny, allowDomain }: PolicyFlags): NetworkPolicy {
  if (allowDomain.length > 0 && base !== "deny-all")
    throw new HearthError("input.invalid", "allow-domain: it takes --network deny-all.", {
      hint: "With nat and allow-all every public address is allowed anyway, and with none nothing.",
    });
  const rules = [
    ...deny.map((text) => parseRule("deny", text)),
    ...allow.map((text) => parseRule("allow", text)),
    ...allowDomain.map(parseDomainRule),
    ...(base === "allow-all" ? EVERYWHERE.map((to) => ({ action: "allow", to }) as const) : []),
  ];
  return checkPolicy({ default: base === "deny-all" ? "deny" : "allow", rules });
}

const PORTS = String.raw`(?::(\d+)(?:-(\d+))?(?:\/(tcp|udp))?)?`;
const NETWORKS = [
  new RegExp(String.raw`^([\d.]+)(\/\d+)?${PORTS}$`),
  new RegExp(String.raw`^\[([\dA-Fa-f.]*:[\dA-Fa-f:.]*)\](\/\d+)?${PORTS}$`),
  // Without brackets, a port would be a part of the address.
  /^([\da-f.]*:[\da-f:.]*)(\/\d+)?$/i,
];

/**
 * Parses `ADDRESS[/BITS][:PORT[-PORT][/udp]]`, and `[ADDRESS][/BITS]…` for IPv6, whose brackets may be left out without a
 * port. With a port, the protocol is tcp if none is given.
 */
export function parseRule(action: PolicyRule["action"], text: string): PolicyRule {
  const parts = NETWORKS.map((network) => network.exec(text)).find((found) => found !== null);
  if (parts === undefined)
    throw new HearthError("input.invalid", `${action}-cidr: ${JSON.stringify(text)} is not a network.`, {
      hint: "Write a network, and ports if only some are meant: 10.20.0.0/16:5432-5433, 2001:db8::/32 or [2001:db8::]/32:443.",
    });
  const [, address = "", bits, ...ports] = parts;
  const every = familyOf(address) === "ipv6" ? "/128" : "/32";
  return { action, to: `${canonicalIpv6(address) ?? address}${bits ?? every}`, ...portsOf(ports) };
}

/**
 * Parses `DOMAIN[:PORT[-PORT][/PROTOCOL]]` and `DOMAIN/tls` or `/http`; with a port, the protocol is tcp if none is given.
 */
export function parseDomainRule(text: string): PolicyRule {
  const parts = /^([^:/]+?)\.?(?::(\d+)(?:-(\d+))?(?:\/(tcp|udp|tls|http))?)?$/.exec(withUsualPort(text));
  if (parts === null)
    throw new HearthError("input.invalid", `allow-domain: ${JSON.stringify(text)} is not a domain.`, {
      hint: "Write a name, and ports if only some are meant: deb.debian.org, *.debian.org:80-443 or pypi.org/tls.",
    });
  const [, domain = "", ...ports] = parts;
  return { action: "allow", to: `domain:${checkDomain(domain.toLowerCase())}`, ...portsOf(ports) };
}

function withUsualPort(text: string): string {
  return text.replace(
    /^([^:]*)\/(tls|http)$/,
    (_, name: string, check: keyof typeof CHECKED_PORTS) => `${name}:${CHECKED_PORTS[check]}/${check}`,
  );
}

function portsOf([first, last = first, protocol = "tcp"]: readonly (string | undefined)[]): Pick<
  PolicyRule,
  "protocol" | "ports"
> {
  if (first === undefined) return {};
  const ports = { first: Number(first), last: Number(last) };
  return { protocol: protocol as NonNullable<PolicyRule["protocol"]>, ports };
}

/** Formats a rule, such as `allow 10.20.0.0/16:5432-5433/tcp` or `allow [2001:db8::]/32:443/tcp`. */
export function formatRule(rule: PolicyRule): string {
  const { action, protocol, ports } = rule;
  const isBracketed = ports !== undefined && networkFamily(rule) === "ipv6";
  const to = isBracketed ? rule.to.replace(/^(.*)\//, "[$1]/") : rule.to;
  const range = ports && (ports.first === ports.last ? String(ports.first) : `${ports.first}-${ports.last}`);
  return `${action} ${to}${range === undefined ? "" : `:${range}`}${protocol === undefined ? "" : `/${protocol}`}`;
}

/** Formats a rule with its comment, for people, such as `deny 0.0.0.0/0/icmp # no ping`. */
export function describeRule(rule: PolicyRule): string {
  return rule.comment === undefined ? formatRule(rule) : `${formatRule(rule)} # ${rule.comment}`;
}
