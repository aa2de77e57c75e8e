import assert from "node:assert/strict";
import { test } from "node:test";
import { firewallOf } from "#daemon/doctor/firewall-check.ts";

type Chain = { readonly name: string; readonly policy?: string; readonly hook?: string };

/** Returns what `nft -j list ruleset` prints about one table. */
function listing(family: string, chains: readonly Chain[], links: readonly string[] = []): string {
  const of = { family, table: "filter" };
  const rules = links.map((link) => ({
    rule: {
      ...of,
      chain: "FORWARD",
      expr: [{ match: { op: "==", left: { meta: { key: "iifname" } }, right: link } }, { accept: null }],
    },
  }));
  return JSON.stringify({
    nftables: [
      { metainfo: { json_schema_version: 1 } },
      ...chains.map((chain) => ({ chain: { ...of, ...chain } })),
      ...rules,
    ],
  });
}

const FORWARD = { name: "FORWARD", hook: "forward", policy: "drop" } as const;

test("a firewall that drops what is forwarded is found, with the command of its own program", () => {
  const docker = firewallOf(listing("ip", [FORWARD, { name: "DOCKER-USER" }], ["docker0"]));
  assert.equal(docker.verdict, "warn");
  assert.equal(docker.found, "chain FORWARD of table ip filter drops what VMs send");
  assert.match(docker.fix ?? "", /^iptables -I DOCKER-USER -i hvm\+ -j ACCEPT/);
  const ufw = firewallOf(listing("ip", [FORWARD, { name: "ufw-user-forward" }]));
  assert.match(ufw.fix ?? "", /^ufw route allow in on hvm\+/);
  const other = firewallOf(listing("inet", [FORWARD]));
  assert.match(other.fix ?? "", /^nft insert rule inet filter FORWARD iifname '"hvm\*"' accept; /);
});

test("a firewall is fine if it has a rule about VMs, accepts, or is about other packets", () => {
  for (const rules of [
    listing("ip", [FORWARD], ["hvm*"]),
    listing("ip", [{ ...FORWARD, policy: "accept" }]),
    listing("ip", [{ ...FORWARD, hook: "input" }]),
    listing("ip6", [FORWARD]),
    listing("ip", []),
  ])
    assert.equal(firewallOf(rules).verdict, "pass", rules);
});
