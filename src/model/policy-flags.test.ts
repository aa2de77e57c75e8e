import assert from "node:assert/strict";
import { test } from "node:test";
import { checkPolicy } from "#model/network-policy.ts";
import { formatRule, parseDomainRule, parseRule, policyOf } from "#model/policy-flags.ts";

test("a rule is parsed with its network and ports, and formatted so that it can be parsed again", () => {
  assert.deepEqual(parseRule("allow", "10.20.0.0/16"), { action: "allow", to: "10.20.0.0/16" });
  assert.deepEqual(parseRule("deny", "192.0.2.1"), { action: "deny", to: "192.0.2.1/32" });
  for (const text of ["10.0.0.0/8", "192.0.2.1/32:53/udp", "192.0.2.0/24:80-443/tcp"])
    assert.equal(formatRule(parseRule("allow", text)), `allow ${text}`);
  assert.equal(formatRule(parseRule("deny", "192.0.2.1:22")), "deny 192.0.2.1/32:22/tcp");
});

test("an IPv6 network has brackets if ports follow, and its short form", () => {
  for (const text of ["2001:db8::/32", "[2001:db8::1]/128:53/udp", "[fd00::]/8:80-443/tcp", "::/0"])
    assert.equal(formatRule(parseRule("allow", text)), `allow ${text}`);
  for (const [text, rule] of [
    ["2001:DB8:0::0:1", "deny 2001:db8::1/128"],
    ["[2001:db8::1]", "deny 2001:db8::1/128"],
    ["[2001:db8::1]:22", "deny [2001:db8::1]/128:22/tcp"],
    ["[2001:db8::]/32", "deny 2001:db8::/32"],
    ["2001:db8::1:80", "deny 2001:db8::1:80/128"], // A group of the address.
  ] as const)
    assert.equal(formatRule(parseRule("deny", text)), rule);
});

test("an IPv4 network in the form of IPv6 is refused, and so is IPv6 that is no network", () => {
  const flags = { base: "internet", deny: [], allowDomain: [] } as const;
  for (const text of ["::ffff:10.0.0.0/104", "::ffff:0:0/96", "[::ffff:a00:1]:80"])
    assert.throws(() => policyOf({ ...flags, allow: [text] }), {
      code: "input.invalid",
      message: /IPv4 network in the form of IPv6/,
    });
  for (const text of ["2001:db8::/129", "2001:db8::/032", "1:2", "2001:db8:::/32", "::g"])
    assert.throws(() => policyOf({ ...flags, allow: [text] }), { code: "input.invalid" }, text);
  for (const to of ["2001:DB8::/32", "fe80::1%eth0/128", "2001:db8::/32 accept"])
    assert.throws(() => checkPolicy({ default: "deny", rules: [{ action: "allow", to }] }), {
      code: "input.invalid",
      message: /is not a network/,
    });
});

test("what is no network, no port or too much is refused", () => {
  for (const text of [
    "",
    "example.org",
    "10.0.0.0/8/9",
    "10.0.0.0/8:",
    "10.0.0.0/8:x",
    "2001:db8::1:80/tcp",
    "2001:db8::/32:443",
    "[2001:db8::]:443/32",
    "[2001:db8::",
    "[fe80::1%eth0]",
    "10.0.0.0/8:1/icmp",
    "1 drop",
  ])
    assert.throws(() => parseRule("allow", text), { code: "input.invalid", hint: /10\.20\.0\.0/ }, text);
  const base = "internet";
  for (const text of [
    "10.0.0.0/33",
    "10.0.0.256",
    "10.0/8",
    "10.0.0.0/8:0",
    "10.0.0.0/8:65536",
    "10.0.0.0/8:9-8",
  ])
    assert.throws(
      () => policyOf({ base, allow: [text], deny: [], allowDomain: [] }),
      { code: "input.invalid" },
      text,
    );
  const rules = Array.from({ length: 1_001 }, () => ({ action: "allow", to: "10.0.0.0/8" }) as const);
  assert.throws(() => checkPolicy({ default: "deny", rules }), { code: "input.invalid", message: /1000/ });
  const withPorts = { action: "allow", to: "10.0.0.0/8", ports: { first: 1, last: 2 } } as const;
  assert.throws(() => checkPolicy({ default: "deny", rules: [withPorts] }), { code: "input.invalid" });
});

test("what is denied wins over what is allowed", () => {
  const policy = policyOf({
    base: "allow-all",
    allow: ["10.0.0.0/8"],
    deny: ["10.1.0.0/16"],
    allowDomain: [],
  });
  assert.deepEqual(policy.rules.map(formatRule), [
    "deny 10.1.0.0/16",
    "allow 10.0.0.0/8",
    "allow 0.0.0.0/0",
    "allow ::/0",
  ]);
  assert.equal(policy.default, "allow");
  assert.equal(policyOf({ base: "deny-all", allow: [], deny: [], allowDomain: [] }).default, "deny");
});

test("a domain is parsed with its ports, formatted so that it can be parsed again, and follows networks", () => {
  assert.deepEqual(parseDomainRule("Deb.Debian.org."), { action: "allow", to: "domain:deb.debian.org" });
  assert.equal(formatRule(parseDomainRule("*.debian.org:80-443")), "allow domain:*.debian.org:80-443/tcp");
  assert.equal(formatRule(parseDomainRule("ntp.example:123/udp")), "allow domain:ntp.example:123/udp");
  for (const [text, rule] of [
    ["pypi.org/tls", "allow domain:pypi.org:443/tls"],
    ["pypi.org/http", "allow domain:pypi.org:80/http"],
    ["pypi.org:8443/tls", "allow domain:pypi.org:8443/tls"],
  ] as const)
    assert.equal(formatRule(parseDomainRule(text)), rule);
  const flags = { base: "deny-all", allow: ["10.0.0.0/8"], deny: [], allowDomain: ["a.example"] } as const;
  assert.deepEqual(policyOf(flags).rules.map(formatRule), ["allow 10.0.0.0/8", "allow domain:a.example"]);
});

test("what is no domain is refused, and so is a domain where everything is allowed or to be denied", () => {
  const tooLong = `${"a".repeat(60)}.`.repeat(5);
  for (const text of [
    "",
    "*",
    "*.",
    "a..b",
    "a.*.b",
    "*a.example",
    "-a.example",
    "a-.example",
    "192.0.2.1",
    "a.example:0",
    "a.example:",
    "a.example/udp",
    "a.example:443/icmp",
    "a b",
    "b\u00fccher.example",
    "http://a.example",
    `${"a".repeat(64)}.example`,
    tooLong,
  ]) {
    const flags = { base: "deny-all", allow: [], deny: [], allowDomain: [text] } as const;
    assert.throws(() => policyOf(flags), { code: "input.invalid" }, text);
  }
  const open = { base: "internet", allow: [], deny: [], allowDomain: ["a.example"] } as const;
  assert.throws(() => policyOf(open), { code: "input.invalid", message: /deny-all/ });
  for (const rule of [
    { action: "allow", to: "10.0.0.0/8", protocol: "tls", ports: { first: 443, last: 443 } },
    { action: "allow", to: "domain:a.example", protocol: "http" },
  ] as const)
    assert.throws(() => checkPolicy({ default: "deny", rules: [rule] }), {
      code: "input.invalid",
      message: /domain/,
    });
  const denied = { default: "allow", rules: [{ action: "deny", to: "domain:a.example" }] } as const;
  assert.throws(() => checkPolicy(denied), { code: "input.invalid", message: /only allow/ });
});
