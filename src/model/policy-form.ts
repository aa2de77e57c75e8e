/**
 * Reads a network policy in the form that people write: in a file of its own, or in config.toml. A rule has `allow` or
 * `deny` with a network, an address or `domain:` and a domain; and a list of ports, each of which becomes a rule. Pure.
 */
import { isIPv4, isIPv6 } from "node:net";
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { CHECKED_PORTS, checkOf, checkPolicy, POLICY_PROTOCOLS } from "#model/network-policy.ts";
import { checkComment } from "#model/policy-comment.ts";
import type { NetworkPolicy, PolicyRule, PortRange } from "#model/network-policy.ts";

const POLICY_KEYS = ["default", "rules"];
const RULE_KEYS = ["allow", "deny", "protocol", "ports", "comment"];

type Table = Readonly<Record<string, unknown>>;

/** Reads a policy. @throws HearthError `input.invalid` with the rule, counted from 1, and what is wrong with it */
export function parsePolicyForm(form: unknown): NetworkPolicy {
  const { default: action, rules = [] } = tableOf(form, "the policy", POLICY_KEYS);
  if (action !== "allow" && action !== "deny")
    throw invalid(
      action === undefined
        ? "default: it is missing."
        : `default: ${shown(action)} is neither allow nor deny.`,
      'Write default = "deny", or "allow" for public addresses that no rule names.',
    );
  if (!Array.isArray(rules)) throw invalid(`rules: ${shown(rules)} is not a list.`, EXAMPLE);
  const parsed = (rules as unknown[]).flatMap((rule, index) =>
    parseInPlace(rule, `rule ${index + 1}`, action),
  );
  return checkPolicy({ default: action, rules: parsed });
}

const EXAMPLE = 'Write, for instance, rules = [ { allow = "10.20.0.0/16", ports = [5432] } ].';

function parseInPlace(form: unknown, place: string, action: NetworkPolicy["default"]): readonly PolicyRule[] {
  try {
    const rules = parseFormRule(form);
    checkPolicy({ default: action, rules });
    return rules;
  } catch (error) {
    if (!(error instanceof HearthError)) throw error;
    throw new HearthError(error.code, `${place}: ${error.message}`, { hint: error.hint });
  }
}

function parseFormRule(form: unknown): readonly PolicyRule[] {
  const { allow, deny, protocol: named, ports, comment } = tableOf(form, "it", RULE_KEYS);
  if ((allow === undefined) === (deny === undefined))
    throw invalid("it has to have either allow or deny.", EXAMPLE);
  const protocol = POLICY_PROTOCOLS.find((each) => each === named);
  if (named !== undefined && protocol === undefined)
    throw invalid(
      `protocol: ${shown(named)} is not a protocol.`,
      `Choose one of ${POLICY_PROTOCOLS.join(", ")}.`,
    );
  if (comment !== undefined && typeof comment !== "string")
    throw invalid(`comment: ${shown(comment)} is not text.`, "Write it in quotes.");
  if (comment !== undefined) checkComment(comment);
  const rule = {
    ...(allow === undefined
      ? { action: "deny" as const, to: targetOf("deny", deny) }
      : { action: "allow" as const, to: targetOf("allow", allow) }),
    ...(protocol !== undefined && { protocol }),
    ...(comment !== undefined && { comment }),
  };
  const ranges = ports === undefined ? usualPorts(rule) : parsePorts(ports);
  if (ranges === undefined) return [rule];
  // As with the flags, ports are those of TCP unless something else is said.
  return ranges.map((range) => Object.assign({ protocol: "tcp" as const }, rule, { ports: range }));
}

/** Completes an address to a network, and writes a domain as the model has it. The model checks both. */
function targetOf(key: string, value: unknown): string {
  if (typeof value !== "string")
    throw invalid(
      `${key}: ${shown(value)} is not text.`,
      'Write a network or a domain: "domain:deb.debian.org".',
    );
  if (value.startsWith("domain:")) return value.toLowerCase();
  if (isIPv4(value)) return `${value}/32`;
  return isIPv6(value) ? `${value}/128` : value;
}

function usualPorts(rule: Pick<PolicyRule, "protocol">): readonly PortRange[] | undefined {
  const check = checkOf(rule);
  return check && [{ first: CHECKED_PORTS[check], last: CHECKED_PORTS[check] }];
}

function parsePorts(ports: unknown): readonly PortRange[] {
  if (Array.isArray(ports) && ports.length > 0) return (ports as unknown[]).map(parsePort);
  throw invalid(
    `ports: ${shown(ports)} is not a list of ports.`,
    'Write, for instance, ports = [80, "8000-8080"].',
  );
}

function parsePort(port: unknown): PortRange {
  const text = typeof port === "number" ? String(port) : port;
  const [, first, last = first] = (typeof text === "string" && /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text)) || [];
  if (first === undefined)
    throw invalid(`ports: ${shown(port)} is not a port.`, 'Write 80, or "8000-8080" for a range.');
  return { first: Number(first), last: Number(last) };
}

function tableOf(value: unknown, what: string, keys: readonly string[]): Table {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid(`${what} is not a table: ${shown(value)}.`, EXAMPLE);
  const unknown = Object.keys(value).find((key) => !keys.includes(key));
  if (unknown === undefined) return value as Table;
  const near = nearest(unknown, keys);
  throw invalid(
    `unknown key ${unknown}.`,
    near === undefined ? `Keys are ${keys.join(", ")}.` : `Did you mean ${near}?`,
  );
}

function shown(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError("input.invalid", message, { hint });
}
