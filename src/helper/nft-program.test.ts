import assert from "node:assert/strict";
import { test } from "node:test";
import { guestProgram, hostProgram, packetLimitProgram, publishProgram } from "#helper/nft-program.ts";
import type { Names } from "#helper/policy-program.ts";
import { run } from "#host/run.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";

const { signal: never } = new AbortController();
const isRoot = process.geteuid?.() === 0;
const POLICY: NetworkPolicy = {
  default: "deny",
  rules: [
    { action: "deny", to: "10.20.1.0/24" },
    { action: "allow", to: "10.20.0.0/16", protocol: "tcp", ports: { first: 5432, last: 5433 } },
    { action: "allow", to: "192.0.2.1/32", protocol: "icmp" },
    { action: "allow", to: "2001:db8:1::/48", protocol: "tcp", ports: { first: 443, last: 443 } },
    { action: "deny", to: "2001:db8::1/128", protocol: "icmp" },
  ],
};
const PORTS = [
  { address: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" },
  { address: "0.0.0.0", hostPort: 5353, guestPort: 53, protocol: "udp" },
  { address: "2001:db8::2", hostPort: 8080, guestPort: 80, protocol: "tcp" },
  { address: "::", hostPort: 5353, guestPort: 53, protocol: "udp" },
] as const;
const FORWARDED = { kind: "forwarded", resolver: "192.0.2.53" } as const;
const HOST = ["203.0.113.2", "2001:db8::2"];
const NETWORK = { mac: "02:00:00:00:00:0a", policy: POLICY };

/** Returns the rules of a chain. */
function chain(program: string, name: string): string[] {
  const [, body = ""] = new RegExp(`chain ${name} \\{\n([\\s\\S]*?)\\n  \\}`).exec(program) ?? [];
  return body.split("\n").map((line) => line.trim());
}

test("the rules of a policy are in their order, before special networks and the default", () => {
  assert.deepEqual(chain(guestProgram(NETWORK, FORWARDED, 5, HOST), "decide"), [
    "ct status dnat ct original ip saddr 192.0.0.2 ct mark set 0x5000 goto allow",
    "ct status dnat ct original ip saddr != 192.0.0.2 ct mark set 0x5002 goto allow",
    "ct status dnat ct original ip6 saddr != fd59:6db4:8e91::2 ct mark set 0x5002 goto allow",
    "ct original ip daddr @host ct mark set 0x5001 goto deny",
    "ct original ip daddr 198.18.0.0/16 ct mark set 0x5001 goto deny",
    "ct original ip6 daddr @host6 ct mark set 0x5001 goto deny",
    "ct original ip6 daddr fd59:6db4:8e91:1::/64 ct mark set 0x5001 goto deny",
    "ct original ip daddr 10.20.1.0/24 ct mark set 0x5004 goto deny",
    "ct original ip daddr 10.20.0.0/16 meta l4proto tcp ct original proto-dst 5432-5433 ct mark set 0x5005 goto allow",
    "ct original ip daddr 192.0.2.1/32 meta l4proto icmp ct mark set 0x5006 goto allow",
    "ct original ip6 daddr 2001:db8:1::/48 meta l4proto tcp ct original proto-dst 443-443 ct mark set 0x5007 goto allow",
    "ct original ip6 daddr 2001:db8::1/128 meta l4proto icmpv6 ct mark set 0x5008 goto deny",
    "ct original ip daddr @special ct mark set 0x5001 goto deny",
    "ct original ip6 daddr @special6 ct mark set 0x5001 goto deny",
    "ct mark set 0x5003 goto deny",
  ]);
});

test("a policy that denies IPv4 networks alone denies IPv6 after its rules, and others do not", () => {
  const decided = (rules: NetworkPolicy["rules"]): string[] =>
    chain(
      guestProgram({ ...NETWORK, policy: { default: "allow", rules } }, FORWARDED, 5, HOST),
      "decide",
    ).slice(-2);
  const deny = { action: "deny", to: "203.0.113.0/24" } as const;
  assert.deepEqual(decided([deny]), [
    "meta nfproto ipv6 ct mark set 0x5001 goto deny",
    "ct mark set 0x5003 goto allow",
  ]);
  assert.doesNotMatch(decided([deny, { action: "deny", to: "2001:db8::/32" }]).join(), /nfproto/);
  assert.doesNotMatch(decided([{ action: "allow", to: "10.0.0.0/8" }]).join(), /nfproto/);
});

test("a frame of the guest has its own IPv6 address, and a message of neighbour discovery looks for the gateway", () => {
  const program = guestProgram(NETWORK, FORWARDED, 5, HOST);
  const rules = chain(program, "ingress");
  const discovery = rules.findIndex((rule) => /^icmpv6 type \{.*nd-redirect \} goto discovery$/.test(rule));
  assert.ok(discovery > 0 && discovery < rules.indexOf("ip6 saddr fd59:6db4:8e91::2 accept"));
  for (const header of ["hbh", "rt", "dst", "mh"]) {
    assert.ok(rules.indexOf(`exthdr ${header} exists drop`) < discovery, header);
    assert.ok(chain(program, "headers").includes(`iifname "tap0" exthdr ${header} exists drop`), header);
  }
  assert.deepEqual(chain(program, "discovery"), [
    "ip6 saddr fd59:6db4:8e91::2 icmpv6 type nd-neighbor-solicit ip6 hoplimit 255 accept",
    "drop",
  ]);
});

test("rules for the host come before all others, and those for VMs and private networks in their order", () => {
  const rules = [
    { action: "allow", to: "vm:db", protocol: "tcp", ports: { first: 5432, last: 5432 } },
    { action: "deny", to: "network:dev" },
    { action: "deny", to: "network:elsewhere" },
    { action: "allow", to: "host", protocol: "tcp", ports: { first: 3128, last: 3128 } },
  ] as const;
  const names: Names = { kind: "answered", resolver: undefined, learned: [] };
  const network = { ...NETWORK, policy: { default: "deny", rules }, networks: ["other", "dev"] } as const;
  const decided = chain(guestProgram(network, names, 5, HOST), "decide");
  const ours = decided.filter((rule) => /0x500[4-7]|@host |@special |private|198\.19/.test(rule));
  assert.deepEqual(ours, [
    "ct status dnat ct original ip saddr 198.19.0.0/16 ct mark set 0x5ffe goto allow",
    "ct original ip daddr 198.18.0.1 meta l4proto tcp ct original proto-dst 3128-3128 ct mark set 0x5007 goto allow",
    "ct original ip daddr @host ct mark set 0x5001 goto deny",
    "ct original ip daddr 198.19.0.0/16 ct original ip daddr @names0 meta l4proto tcp ct original proto-dst 5432-5432 ct mark set 0x5004 goto allow",
    "ct original ip daddr $network1 ct mark set 0x5005 goto deny",
    "ct original ip daddr 198.19.0.0/16 ct mark set 0x5ffe goto allow",
    "ct original ip daddr @special ct mark set 0x5001 goto deny",
  ]);
});

test("what belongs to no connection is dropped before any rule, which could not match it", () => {
  const [, first] = chain(guestProgram(NETWORK, FORWARDED, 5, HOST), "forward");
  assert.equal(first, "ct state invalid,untracked drop");
});

test("a guest without a resolver has no way to one", () => {
  assert.doesNotMatch(guestProgram(NETWORK, { kind: "none" }, 5, HOST), /chain queries|dport 53/);
  assert.match(guestProgram(NETWORK, FORWARDED, 5, HOST), /udp dport 53 dnat ip to 192\.0\.2\.53/);
});

test("a rule for a domain has the addresses of its names, of which none is special", () => {
  const rules = [
    { action: "allow", to: "domain:*.example", protocol: "tcp", ports: { first: 80, last: 80 } },
  ] as const;
  const learned = [
    { domain: "*.example", address: "198.51.100.7", seconds: 60 },
    { domain: "*.example", address: "2001:db8::7", seconds: 60 },
    { domain: "gone.example", address: "198.51.100.8", seconds: 60 },
  ];
  const program = guestProgram(
    { ...NETWORK, policy: { default: "deny", rules } },
    { kind: "answered", resolver: "192.0.2.53", learned },
    5,
    HOST,
  );
  assert.match(program, /set names0 \{[^}]*elements = \{ 198\.51\.100\.7 timeout 60s \};/);
  assert.match(program, /set names0v6 \{[^}]*elements = \{ 2001:db8::7 timeout 60s \};/);
  const decided = chain(program, "decide");
  const [first] = decided;
  const [second, third] = decided.filter((rule) => rule.includes("@names0"));
  assert.match(first ?? "", /!= 192.*0x5002 goto allow/, "queries of an earlier policy are not forwarded");
  assert.equal(
    second,
    "ct original ip daddr != @special ct original ip daddr @names0 meta l4proto tcp ct original proto-dst 80-80 ct mark set 0x5004 goto allow",
  );
  assert.match(third ?? "", /^ct original ip6 daddr != @special6 ct original ip6 daddr @names0v6 meta /);
  assert.match(chain(program, "input").join(), /udp dport 53 limit rate/);
  assert.doesNotMatch(program, /chain queries/);
});

test("a process of the namespace sends to the guest only, and its resolver to that of the host", () => {
  const sent = (names: Names): string => chain(guestProgram(NETWORK, names, 5, HOST), "output").join("\n");
  assert.match(
    sent(FORWARDED),
    /policy drop;\noifname \{ "tap0", "lo" \} accept\nicmp type \{.*\} accept\nicmpv6 type \{.*\} accept\ncounter$/,
  );
  const answered = sent({ kind: "answered", resolver: "192.0.2.53", learned: [] });
  assert.match(
    answered,
    /ip daddr 192\.0\.2\.53 udp dport 53 accept\nip daddr 192\.0\.2\.53 tcp dport 53 accept/,
  );
});

test("what is to be checked is redirected, unless an earlier rule decides, and only the resolver goes out", () => {
  const ports = { first: 443, last: 443 };
  const policy: NetworkPolicy = {
    default: "deny",
    rules: [
      { action: "deny", to: "198.51.100.0/24" },
      { action: "allow", to: "domain:*.example", protocol: "tls", ports },
      { action: "allow", to: "10.0.0.0/8" },
    ],
  };
  const names: Names = { kind: "answered", resolver: "192.0.2.53", learned: [] };
  const program = guestProgram({ ...NETWORK, policy }, names, 5, HOST);
  const address = "ct original ip daddr";
  const checked = `${address} != @special ${address} @names1 meta l4proto tcp ct original proto-dst 443-443`;
  const checked6 = checked
    .replaceAll("ip daddr", "ip6 daddr")
    .replace("special", "special6")
    .replace("names1", "names1v6");
  assert.deepEqual(chain(program, "checks").slice(1), [
    'iifname "tap0" ct original ip daddr 198.51.100.0/24 accept',
    `iifname "tap0" ${checked} redirect to :8443`,
    `iifname "tap0" ${checked6} redirect to :8443`,
  ]);
  const sent = chain(program, "output").join("\n");
  assert.match(sent, /ct state established ct mark 0x5000-0x5ffe accept\n/);
  assert.ok(sent.includes(`meta skgid 65534 ${checked} ct mark set 0x5005 accept`));
  assert.doesNotMatch(chain(program, "decide").join("\n"), /names1/);
  assert.match(
    chain(program, "input").join("\n"),
    /tcp dport 8443 ct status dnat ct original ip daddr != @special ct original ip daddr @names1/,
  );
});

test("nft accepts every program", { skip: isRoot ? false : "nft needs root" }, async () => {
  const inside = (policy: NetworkPolicy, names: Names): string =>
    guestProgram({ ...NETWORK, policy, publish: PORTS }, names, 5, HOST).replace(
      '"tap0" priority',
      '"lo" priority',
    );
  const domains: NetworkPolicy = {
    default: "deny",
    rules: [
      { action: "allow", to: "domain:*.example" },
      { action: "allow", to: "domain:a.example", protocol: "udp", ports: { first: 1, last: 9 } },
      { action: "allow", to: "domain:b.example", protocol: "tls", ports: { first: 443, last: 443 } },
      { action: "allow", to: "domain:b.example", protocol: "http", ports: { first: 80, last: 81 } },
    ],
  };
  const learned = [
    { domain: "*.example", address: "198.51.100.7", seconds: 60 },
    { domain: "*.example", address: "198.51.100.8", seconds: 6 },
    { domain: "*.example", address: "2001:db8::8", seconds: 6 },
  ];
  const guests = [
    inside(POLICY, FORWARDED),
    inside(domains, { kind: "answered", resolver: "192.0.2.53", learned }),
  ];
  const limited = packetLimitProgram({ opsPerS: 100, opsBurst: 200 }) + packetLimitProgram({});
  const published = publishProgram("hearth_a", "hvmaaaaaaaaaaaa", PORTS);
  for (const program of [
    ...guests,
    hostProgram({ ipv4: false, ipv6: false }).rules,
    hostProgram({ ipv4: true, ipv6: true }).rules,
    published,
    limited,
  ]) {
    const argv = ["--net", "nft", "--check", "-f", "-"];
    const input = `define address = 198.18.0.2\ndefine address6 = fd59::2\n${program}`;
    const checked = await run("unshare", argv, { input, timeoutMs: 10_000, signal: never });
    assert.ok(checked.ok, checked.stderr);
  }
});
