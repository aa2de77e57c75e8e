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
  const refused = { code: "feature.missing", hint: /--network user/ };
  const limitations = { ...NONE, network: "Not here." };
  assert.throws(() => checkNetwork({ limitations }, NAT), { ...refused, message: "Not here." });
  const isolation = { ...FULL_ISOLATION, jail: false };
  assert.throws(() => checkNetwork({ limitations: NONE }, { ...NAT, isolation }), refused);
  checkNetwork({ limitations }, { ...NAT, network: "user" });
});

test("a policy is refused for a VM whose network has none", () => {
  checkNetwork({ limitations: NONE }, { ...NAT, policy: INTERNET });
  for (const network of ["none", "user"] as const)
    assert.throws(() => checkNetwork({ limitations: NONE }, { ...NAT, network, policy: INTERNET }), {
      code: "input.invalid",
      message: new RegExp(`the network ${network} has none`),
      hint: /--network nat/,
    });
});
