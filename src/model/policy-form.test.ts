import assert from "node:assert/strict";
import { test } from "node:test";
import { withoutComments } from "#model/policy-comment.ts";
import { describeRule } from "#model/policy-flags.ts";
import { parsePolicyForm } from "#model/policy-form.ts";

function rulesOf(rules: readonly object[]): string[] {
  return parsePolicyForm({ default: "deny", rules }).rules.map(describeRule);
}

test("a rule has a network, an address or a domain, and each of its ports becomes a rule, in order", () => {
  assert.deepEqual(
    rulesOf([
      { allow: "domain:*.Debian.org", ports: [80, 443] },
      { allow: "10.20.0.0/16", protocol: "tcp", ports: [5432, "8000-8080"] },
      { deny: "192.0.2.1", protocol: "udp", ports: ["53"] },
      { allow: "domain:pypi.org", protocol: "tls", comment: "packages" },
      { deny: "0.0.0.0/0", protocol: "icmp", comment: "no ping" },
      { allow: "vm:db", ports: [5432] },
      { deny: "network:dev" },
      { allow: "host", ports: [3128] },
    ]),
    [
      "allow domain:*.debian.org:80/tcp",
      "allow domain:*.debian.org:443/tcp",
      "allow 10.20.0.0/16:5432/tcp",
      "allow 10.20.0.0/16:8000-8080/tcp",
      "deny 192.0.2.1/32:53/udp",
      "allow domain:pypi.org:443/tls # packages",
      "deny 0.0.0.0/0/icmp # no ping",
      "allow vm:db:5432/tcp",
      "deny network:dev",
      "allow host:3128/tcp",
    ],
  );
  assert.deepEqual(parsePolicyForm({ default: "allow" }), { default: "allow", rules: [] });
});

test("what is no policy is refused with the rule, the key and the value", () => {
  const net = "10.0.0.0/8";
  const wrong: readonly (readonly [form: unknown, message: RegExp])[] = [
    [3, /the policy is not a table: 3/],
    [[], /the policy is not a table/],
    [{}, /default: it is missing/],
    [{ default: "reject" }, /default: "reject" is neither/],
    [{ default: "deny", rule: [] }, /unknown key rule/],
    [{ default: "deny", rules: {} }, /rules: \{\} is not a list/],
  ];
  const wrongRules: readonly (readonly [rule: unknown, message: RegExp])[] = [
    ["allow all", /rule 2: it is not a table/],
    [{ to: net }, /rule 2: unknown key to/],
    [{ ports: [80] }, /rule 2: it has to have either/],
    [{ allow: net, deny: net }, /rule 2: it has to have either/],
    [{ allow: 10 }, /rule 2: allow: 10 is not text/],
    [{ allow: "example.org" }, /rule 2: "example.org" is not a/],
    [{ deny: "domain:example.org" }, /rule 2: domain:example.org: a rule for a name can only allow/],
    [{ deny: "vm:db" }, /rule 2: vm:db: a rule for a name can only allow/],
    [{ allow: "vm:D B" }, /rule 2: networks: "D B" is no name/],
    [{ allow: "network:" }, /rule 2: networks: "" is no name/],
    [{ allow: "vm:db", protocol: "tls" }, /rule 2: vm:db: a rule for tls is about a domain/],
    [{ allow: net, protocol: "sctp" }, /rule 2: protocol: "sctp" is not a protocol/],
    [{ allow: net, protocol: "icmp", ports: [1] }, /rule 2: The rule for 10.0.0.0\/8 has ports/],
    [{ allow: net, ports: 80 }, /rule 2: ports: 80 is not a list/],
    [{ allow: net, ports: [] }, /rule 2: ports: \[\] is not a list/],
    [{ allow: net, ports: [80.5] }, /rule 2: ports: 80.5 is not a port/],
    [{ allow: net, ports: ["1-"] }, /rule 2: ports: "1-" is not a port/],
    [{ allow: net, ports: [0] }, /rule 2: 0-0 is not a range/],
    [{ allow: net, ports: ["443-80"] }, /rule 2: 443-80 is not a range/],
    [{ allow: net, comment: 3 }, /rule 2: comment: 3 is not text/],
  ];
  const all = [
    ...wrong,
    ...wrongRules.map(
      ([rule, message]) => [{ default: "deny", rules: [{ allow: net }, rule] }, message] as const,
    ),
  ];
  for (const [form, message] of all)
    assert.throws(() => parsePolicyForm(form), { code: "input.invalid", message });
  const many = Array.from({ length: 501 }, () => ({ allow: net, ports: [80, 443] }));
  assert.throws(() => parsePolicyForm({ default: "deny", rules: many }), { message: /at most 1000 rules/ });
});

test("a comment is one line that can be printed, and is not put in force", () => {
  const formWith = (comment: string) => ({ default: "deny", rules: [{ allow: "10.0.0.0/8", comment }] });
  const policy = parsePolicyForm(formWith("the office’s network, 事務所"));
  assert.equal(policy.rules[0]?.comment, "the office’s network, 事務所");
  assert.deepEqual(withoutComments(policy), {
    default: "deny",
    rules: [{ action: "allow", to: "10.0.0.0/8" }],
  });
  for (const comment of ["", "a\nb", "a\x1b[2J", "a\u202eb", "a\x9b", "\0", "\ud800", "x".repeat(241)])
    assert.throws(() => parsePolicyForm(formWith(comment)), {
      code: "input.invalid",
      message: /^rule 1: comment: .* is not a comment/,
    });
  parsePolicyForm(formWith("x".repeat(240)));
});
