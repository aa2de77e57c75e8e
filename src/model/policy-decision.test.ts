import assert from "node:assert/strict";
import { test } from "node:test";
import { INTERNET } from "#model/network-policy.ts";
import { decide } from "#model/policy-decision.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";

const POLICY: NetworkPolicy = {
  default: "deny",
  rules: [
    { action: "deny", to: "10.20.1.0/24" },
    { action: "allow", to: "10.20.0.0/16", protocol: "tcp", ports: { first: 5432, last: 5433 } },
    { action: "allow", to: "192.0.2.1/32", protocol: "udp" },
  ],
};

test("the first rule that matches decides, then special networks, then the default", () => {
  const rows = [
    ["10.20.1.7", 5432, "deny", { rule: 0 }],
    ["10.20.2.7", 5432, "allow", { rule: 1 }],
    ["10.20.2.7", 5433, "allow", { rule: 1 }],
    ["10.20.2.7", 5434, "deny", "special"],
    ["192.0.2.1", 53, "deny", "default"], // The rule is for UDP.
    ["10.21.0.1", 5432, "deny", "special"],
    ["169.254.169.254", 80, "deny", "special"],
    ["198.51.100.7", 80, "deny", "default"],
  ] as const;
  for (const [address, port, action, by] of rows)
    assert.deepEqual(decide(POLICY, { address, protocol: "tcp", port }), { action, by }, address);
});

test("rules for the host, for private networks and for VMs on them decide about those alone", () => {
  const policy: NetworkPolicy = {
    default: "allow",
    rules: [
      { action: "allow", to: "198.18.0.0/15" },
      { action: "allow", to: "host", protocol: "tcp", ports: { first: 3128, last: 3128 } },
      { action: "allow", to: "vm:db", protocol: "tcp", ports: { first: 5432, last: 5432 } },
      { action: "deny", to: "network:dev" },
    ],
  };
  const { rules } = policy;
  const without: NetworkPolicy = { ...policy, rules: rules.slice(1) };
  const decided = (more: Partial<Parameters<typeof decide>[1]>, from = without) =>
    decide(from, { address: "198.19.3.4", protocol: "tcp", port: 5432, ...more }).by;
  const host = { address: "198.18.0.1", isHost: true };
  assert.deepEqual(decided({ ...host, port: 3128 }), { rule: 0 });
  assert.equal(decided({ ...host, port: 3129 }), "special");
  assert.equal(decided({ ...host, port: 3129 }, policy), "special", "a network has not the host");
  const onDev = { networks: ["dev"] };
  assert.deepEqual(decided({ ...onDev, name: "DB.hearth" }), { rule: 1 });
  assert.deepEqual(decided({ ...onDev, name: "db.hearth", port: 22 }), { rule: 2 });
  assert.deepEqual(decided(onDev), { rule: 2 });
  assert.equal(decided({ networks: ["other"] }), "special");
  assert.equal(decided({ address: "198.51.100.7", name: "db.hearth" }), "default");
});

test("a policy that denies IPv4 networks and names none of IPv6 denies IPv6, unless it names domains", () => {
  const decided = (policy: NetworkPolicy, address: string, name?: string) =>
    decide(policy, { address, name, protocol: "tcp", port: 443 });
  const deny = { action: "deny", to: "203.0.113.0/24" } as const;
  const ipv4: NetworkPolicy = { default: "allow", rules: [{ action: "allow", to: "10.0.0.0/8" }, deny] };
  assert.deepEqual(decided(ipv4, "2001:db8::7"), { action: "deny", by: "ipv6" });
  assert.deepEqual(decided(ipv4, "fd00::7"), { action: "deny", by: "special" });
  assert.deepEqual(decided(ipv4, "198.51.100.7"), { action: "allow", by: "default" });
  for (const rules of [
    [deny, { action: "deny", to: "2001:db8:1::/48" }],
    [deny, { action: "allow", to: "::/0", protocol: "udp" }],
    [{ action: "allow", to: "10.0.0.0/8" }],
  ] as const)
    assert.deepEqual(decided({ default: "allow", rules }, "2001:db8::7"), { action: "allow", by: "default" });
  const named: NetworkPolicy = { default: "deny", rules: [deny, { action: "allow", to: "domain:a.test" }] };
  assert.deepEqual(decided(named, "2001:db8::7", "a.test"), { action: "allow", by: { rule: 1 } });
  assert.deepEqual(decided(named, "fd00::7", "a.test"), { action: "deny", by: "special" });
});

test("the policy of VMs without one allows public addresses", () => {
  const packet = { protocol: "tcp", port: 443 } as const;
  for (const address of ["198.51.100.7", "2001:db8::7", "2606:4700::1111", "2a00::1"])
    assert.equal(decide(INTERNET, { ...packet, address }).action, "allow", address);
  for (const address of [
    "::",
    "::1",
    "::ffff:198.51.100.7",
    "64:ff9b::a01:203",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2002:a01:203::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
  ])
    assert.deepEqual(decide(INTERNET, { ...packet, address }), { action: "deny", by: "special" }, address);
  for (const address of ["127.0.0.1", "10.0.0.1", "172.31.255.1", "192.168.1.1", "198.19.255.1", "224.0.0.1"])
    assert.equal(decide(INTERNET, { ...packet, address }).action, "deny", address);
});

test("a rule for a domain decides about addresses that were found by its names, unless they are special", () => {
  const policy: NetworkPolicy = {
    default: "deny",
    rules: [
      { action: "allow", to: "domain:*.example" },
      { action: "allow", to: "domain:one.test", protocol: "tls", ports: { first: 443, last: 443 } },
    ],
  };
  const rows = [
    ["a.example", "198.51.100.7", 80, { rule: 0 }],
    ["B.A.example.", "198.51.100.7", 80, { rule: 0 }],
    ["example", "198.51.100.7", 80, "default"],
    ["badexample", "198.51.100.7", 80, "default"],
    ["a.example", "10.0.0.1", 80, "special"],
    ["one.test", "198.51.100.7", 443, { rule: 1 }],
    ["one.test", "198.51.100.7", 80, "default"],
    ["a.one.test", "198.51.100.7", 443, "default"],
    [undefined, "198.51.100.7", 80, "default"],
  ] as const;
  for (const [name, address, port, by] of rows)
    assert.deepEqual(decide(policy, { address, protocol: "tcp", port, name }).by, by, `${name} ${address}`);
});
