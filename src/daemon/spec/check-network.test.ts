import assert from "node:assert/strict";
import { test } from "node:test";
import { checkNetwork } from "#daemon/spec/check-network.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import { INTERNET } from "#model/network-policy.ts";
import type { VmSpec } from "#model/vm-spec.ts";

const NONE = { uid: undefined, cgroup: undefined, network: undefined, domains: undefined };
const NAT = { network: "nat", isolation: FULL_ISOLATION } as VmSpec;

test("a network is refused where hearthd cannot make it, or where the VM has no uid, with another one", () => {
  assert.equal(checkNetwork({ limitations: NONE }, NAT), NAT);
  const refused = { code: "feature.missing", hint: /--network none/ };
  const limitations = { ...NONE, network: "Not here." };
  assert.throws(() => checkNetwork({ limitations }, NAT), { ...refused, message: "Not here." });
  const isolation = { ...FULL_ISOLATION, jail: false };
  assert.throws(() => checkNetwork({ limitations: NONE }, { ...NAT, isolation }), refused);
  checkNetwork({ limitations }, { ...NAT, network: "none" });
});

test("a rule about a private network is refused for a VM that is not on it", () => {
  const policyOf = (to: string) => ({ default: "deny", rules: [{ action: "allow", to }] }) as const;
  const check = (to: string, networks?: readonly string[]): void => {
    checkNetwork({ limitations: NONE }, { ...NAT, policy: policyOf(to), networks });
  };
  for (const to of ["network:dev", "vm:db", "host", "10.0.0.0/8"]) check(to, ["dev"]);
  for (const to of ["host", "10.0.0.0/8"]) check(to);
  assert.throws(() => check("network:dev"), { code: "input.invalid", message: /private network dev/ });
  assert.throws(() => check("network:dev", ["other"]), { code: "input.invalid", hint: /--join/ });
  assert.throws(() => check("vm:db"), { code: "input.invalid", message: /that both are on/ });
});

test("a policy is refused for a VM whose network has none", () => {
  checkNetwork({ limitations: NONE }, { ...NAT, policy: INTERNET });
  const spec = { ...NAT, network: "none", policy: INTERNET } as const;
  assert.throws(() => checkNetwork({ limitations: NONE }, spec), {
    code: "input.invalid",
    message: /the network none has none/,
    hint: /--network nat/,
  });
});

test("a policy with domains, and ports with two targets, are refused where networks are made without root", () => {
  const named = { default: "deny", rules: [{ action: "allow", to: "domain:*.example" }] } as const;
  const port = { address: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" } as const;
  const publish = [port, { ...port, address: "192.0.2.1", guestPort: 81 }];
  for (const fields of [{ policy: named }, { publish }])
    checkNetwork({ limitations: NONE }, { ...NAT, ...fields });
  const limitations = { ...NONE, uid: "Not here.", domains: "No names here." };
  checkNetwork({ limitations }, { ...NAT, policy: INTERNET, publish: [port] });
  assert.throws(() => checkNetwork({ limitations }, { ...NAT, policy: named }), {
    code: "feature.missing",
    message: "No names here.",
    hint: /--allow-cidr/,
  });
  assert.throws(() => checkNetwork({ limitations }, { ...NAT, publish }), { code: "input.invalid" });
});
