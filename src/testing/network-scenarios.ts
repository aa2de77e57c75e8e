/**
 * Runs what happens to the networks of VMs, in the network namespace of this process, which is the host. Started by
 * `helper/vm-networks.test.ts` with the name of a scenario and the directory of the namespaces.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { GuestNetwork } from "#helper/nft-program.ts";
import { networkPrograms, VmNetworks } from "#helper/vm-networks.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcessesOf, isAlive } from "#host/procfs.ts";
import { run, runOrThrow } from "#host/run.ts";
import { parseVmId } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import { CONF6, hasAdvertised, read6, route6, SETTINGS6, uplink6 } from "#testing/ipv6-uplink.ts";

const [, , scenario = "", dir = "", killAfterMs] = process.argv;
const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const ID = parseVmId("vm-aaaaaaaaaaaa");
const UID = 1_970_000_000;
const NETWORK: GuestNetwork = { mac: "02:00:00:00:00:0a", policy: INTERNET, resolver: "192.0.2.53" };
const PROGRAMS = networkPrograms(join(import.meta.dirname, "../../build/agent"));
const never = new AbortController().signal;
const networks = new VmNetworks(dir, PROGRAMS, "scenarios", () => UID);

const make = (id: VmId = ID): Promise<void> => networks.make(id, NETWORK, never);
const remove = (id: VmId = ID): Promise<void> => networks.remove(id, never);

function tell(program: string, ...args: string[]): Promise<string> {
  return runOrThrow(program, args, { timeoutMs: 10_000, signal: never });
}

function inside(...args: string[]): Promise<string> {
  return tell("nsenter", `--net=${networks.path(ID)}`, ...args);
}

/** Returns all that Hearth could have changed on this host. */
async function hostState(): Promise<string> {
  const parts = await Promise.all([
    tell("ip", "-o", "link"),
    tell("ip", "route"),
    tell("ip", "-o", "addr"),
    tell("nft", "list", "ruleset"),
    tell("ip", "-6", "route"),
    tell("ip", "-6", "neigh", "show", "nud", "permanent"),
  ]);
  const files = [FORWARDING, ...SETTINGS6];
  const settings = files.filter((file) => existsSync(file)).map((file) => readFileSync(file, "utf8"));
  // The routes of a router advertisement have an end.
  return [...parts, ...settings].join("\n").replaceAll(/ expires \d+sec/g, "");
}

/** Waits for the processes of the resolver to end. */
async function untilEnded(): Promise<void> {
  while (findProcessesOf(UID).some(isAlive)) await setImmediate();
}

/** Checks that the probe of everything else, the state of the host, sees a network. */
async function assertMade(before: string): Promise<void> {
  assert.notEqual(await hostState(), before);
  assert.match(await tell("ip", "-o", "link"), /: hvmaaaaaaaaaaaa@/);
  assert.match(await inside("nft", "list", "ruleset"), /02:00:00:00:00:0a/);
  assert.match(await inside("ip", "-o", "addr"), /tap0 +inet 192\.0\.0\.1\/29/);
  const tap = await inside("ip", "-d", "-o", "link", "show", "tap0");
  assert.match(
    tap,
    new RegExp(`tun type tap pi off .*user ${UID} addrgenmode`),
    "its owner may open it, in any group",
  );
  assert.equal(await inside("cat", FORWARDING), "1\n");
  assert.deepEqual(networks.list(), [ID]);
}

const SCENARIOS: Readonly<Record<string, () => Promise<void>>> = {
  async twice() {
    const before = await hostState();
    await make();
    await make();
    await assertMade(before);
    await remove();
    await remove();
    assert.equal(await hostState(), before);
  },

  async named() {
    const before = await hostState();
    const policy: NetworkPolicy = { default: "deny", rules: [{ action: "allow", to: "domain:*.example" }] };
    const named = { ...NETWORK, policy };
    await networks.make(ID, named, never);
    assert.equal(findProcessesOf(UID).length, 2);
    assert.match(await inside("nft", "list", "ruleset"), /set names0/);
    await networks.setPolicy(ID, named, never);
    assert.equal(findProcessesOf(UID).length, 2, "the same ones");
    for (const process of findProcessesOf(UID)) await endProcess(process, 0, never);
    await networks.setPolicy(ID, named, never);
    assert.equal(findProcessesOf(UID).length, 2, "new ones, for those that have ended");
    await networks.setPolicy(ID, NETWORK, never);
    await untilEnded();
    await networks.make(ID, named, never);
    await networks.make(ID, named, never);
    await remove();
    await untilEnded();
    assert.equal(await hostState(), before);
  },

  async shared() {
    writeFileSync(FORWARDING, "0");
    const before = await hostState();
    await make();
    await tell("unshare", "--net", process.execPath, fileURLToPath(import.meta.url), "neighbour", dir);
    assert.equal(readFileSync(FORWARDING, "utf8"), "1\n");
    await remove();
    assert.equal(await hostState(), before);
  },

  /** The other host of `shared`. */
  async neighbour() {
    const other = parseVmId("vm-cccccccccccc");
    writeFileSync(FORWARDING, "0");
    await make(other);
    await remove(other);
    assert.equal(readFileSync(FORWARDING, "utf8"), "0\n");
  },

  async ipv6() {
    await route6();
    await tell("ip", "-6", "route", "del", "default");
    await make();
    assert.doesNotMatch(await inside("ip", "-6", "route"), /default/, "the host has no default route");
    assert.match(await inside("ip", "-6", "addr"), /fd59:6db4:8e91::1\/126/, "the guest's gateway answers");
    assert.equal(read6("all/forwarding"), "0");
    await remove();
    await tell("ip", "route", "add", "default", "via", "2001:db8::1");
    const before = await hostState();
    await make();
    assert.match(await inside("ip", "-6", "route"), /default via fe80::1 dev uplink/);
    assert.doesNotMatch(await inside("ip", "-6", "addr"), /tentative|inet6 fe80/);
    assert.equal(await inside("cat", `${CONF6}/all/forwarding`), "1\n");
    const [, address = ""] = /^198\.18\.(\S+) dev hvm/m.exec(await tell("ip", "route")) ?? [];
    const hex = address.split(".").map(Number);
    const low = (((hex[0] ?? 0) << 8) | (hex[1] ?? 0)).toString(16);
    assert.match(await tell("ip", "-6", "route"), new RegExp(`^fd59:6db4:8e91:1::c612:${low} dev hvm`, "m"));
    const rules = await tell("nft", "list", "ruleset");
    assert.match(rules, /meta nfproto ipv6 iifname != "hvm\*" oifname != "hvm\*" drop/);
    assert.match(rules, /ip6 saddr fd59:6db4:8e91:1::\/64 oifname != "hvm\*" masquerade/);
    await remove();
    assert.equal(await hostState(), before);
    const publish = [
      { address: "2001:db8::2", hostPort: 8080, guestPort: 80, protocol: "tcp" },
      { address: "::", hostPort: 5353, guestPort: 53, protocol: "udp" },
    ] as const;
    await networks.make(ID, { ...NETWORK, publish }, never);
    assert.match(
      await tell("nft", "list", "ruleset"),
      /ip6 daddr 2001:db8::2 tcp dport 8080 dnat to \[fd59\S+\]:80/,
    );
    await remove();
    assert.equal(await hostState(), before);
  },

  async advertised() {
    const advertise = await uplink6();
    await advertise();
    writeFileSync(`${CONF6}/all/forwarding`, "1");
    assert.equal(await hasAdvertised(), false, "a router loses what was advertised to it");
    writeFileSync(`${CONF6}/all/forwarding`, "0");
    writeFileSync(`${CONF6}/lo/forwarding`, "1");
    await advertise();
    const before = await hostState();
    await make();
    assert.equal(read6("all/forwarding"), "1");
    assert.equal(await hasAdvertised(), true);
    await tell("ip", "-6", "route", "del", "default");
    await advertise();
    const other = parseVmId("vm-bbbbbbbbbbbb");
    await make(other);
    await remove(other);
    assert.equal(read6("wan/accept_ra"), "2");
    await remove();
    assert.equal(await hostState(), before);
  },

  async router6() {
    const advertise = await uplink6();
    await advertise();
    writeFileSync(`${CONF6}/wan/accept_ra`, "2");
    writeFileSync(`${CONF6}/all/forwarding`, "1");
    const before = await hostState();
    await make();
    assert.doesNotMatch(await tell("nft", "list", "ruleset"), /meta nfproto ipv6 iifname !=/);
    await remove();
    assert.equal(await hostState(), before);
  },

  async router() {
    writeFileSync(FORWARDING, "1");
    await tell("nft", "add", "table", "inet", "theirs");
    const before = await hostState();
    await make();
    await assertMade(before);
    assert.doesNotMatch(await tell("nft", "list", "ruleset"), /chain router/);
    await remove();
    assert.equal(await hostState(), before);
  },

  async closed() {
    writeFileSync(FORWARDING, "0");
    const before = await hostState();
    const other = parseVmId("vm-bbbbbbbbbbbb");
    await make();
    await make(other);
    await remove();
    assert.match(await tell("nft", "list", "ruleset"), /chain router/);
    assert.equal(readFileSync(FORWARDING, "utf8"), "1\n");
    await remove(other);
    assert.equal(await hostState(), before);
  },

  async private() {
    const before = await hostState();
    const [db, other] = [parseVmId("vm-bbbbbbbbbbbb"), parseVmId("vm-cccccccccccc")];
    const on = (name: string, ...names: string[]): GuestNetwork => ({ ...NETWORK, name, networks: names });
    await networks.make(ID, on("web", "dev", "shared"), never);
    await networks.make(db, on("db", "dev"), never);
    await networks.make(other, on("other", "shared"), never);
    const addresses = async (id: VmId): Promise<string[]> => {
      const shown = await tell("nsenter", `--net=${networks.path(id)}`, "ip", "-o", "addr", "show", "uplink");
      return [...shown.matchAll(/inet (198\.19\.\d+)\.\d+\/32/g)].map(([, network = ""]) => network);
    };
    const [dev, shared] = [await addresses(db), await addresses(other)];
    assert.deepEqual(await addresses(ID), [...dev, ...shared]);
    assert.notDeepEqual(dev, shared);
    // Another hearthd's network of the same name is another network.
    const theirs = new VmNetworks(dir, PROGRAMS, "theirs", () => UID);
    await theirs.make(other, on("other", "dev"), never);
    assert.notDeepEqual(await addresses(other), dev);
    await networks.make(ID, on("web", "dev"), never);
    assert.deepEqual(await addresses(ID), dev, "a VM that starts again is on its network");
    const policy: NetworkPolicy = { default: "deny", rules: [{ action: "deny", to: "network:dev" }] };
    await networks.setPolicy(ID, { policy, networks: ["dev"] }, never);
    assert.match(await inside("nft", "list", "ruleset"), new RegExp(`ct original ip daddr ${dev[0]}\\.0/24`));
    for (const wrong of [on("web", "De v"), on("web", "dev", "dev"), on("We b", "dev")])
      await assert.rejects(networks.make(ID, wrong, never), { code: "input.invalid" });
    for (const id of [ID, db, other]) await remove(id);
    await untilEnded();
    assert.equal(await hostState(), before);
    assert.deepEqual(
      readdirSync(dir).filter((name) => name !== ".lock"),
      [],
    );
  },

  async published() {
    const before = await hostState();
    const publish = [
      { address: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" },
      { address: "0.0.0.0", hostPort: 5353, guestPort: 53, protocol: "udp" },
    ] as const;
    const withPorts = (): Promise<void> => networks.make(ID, { ...NETWORK, publish }, never);
    await withPorts();
    await withPorts();
    assert.match(await tell("nft", "list", "ruleset"), /127\.0\.0\.1 tcp dport 8080 dnat to 198\.18\.\S+:80/);
    await remove();
    assert.equal(await hostState(), before);
    for (const wrong of [
      { ...publish[0], address: "127.0.0.1 accept" },
      { ...publish[0], guestPort: 0 },
    ])
      await assert.rejects(networks.make(ID, { ...NETWORK, publish: [wrong] }, never), {
        code: "input.invalid",
      });
    assert.equal(await hostState(), before);
  },

  async limited() {
    const before = await hostState();
    const limit = { bandwidthBytesPerS: 1_000_000, opsPerS: 500 };
    await networks.make(ID, { ...NETWORK, limit }, never);
    const shown = async (): Promise<string[]> => [
      await tell("tc", "qdisc", "show", "dev", "hvmaaaaaaaaaaaa"),
      await inside("tc", "qdisc", "show", "dev", "uplink"),
      await inside("nft", "list", "ruleset"),
    ];
    const [toGuest = "", fromGuest = "", rules = ""] = await shown();
    for (const qdisc of [toGuest, fromGuest])
      assert.match(qdisc, /tbf .* rate 8Mbit burst 100000b lat 200ms/);
    assert.equal(rules.match(/limit rate over 500\/second burst 500 packets drop/g)?.length, 2);
    await networks.setLimit(ID, { opsPerS: 20, opsBurst: 40 }, never);
    const [only = "", , packets = ""] = await shown();
    assert.match(only, /noqueue/);
    assert.match(packets, /limit rate over 20\/second burst 40 packets drop/);
    await networks.setLimit(ID, {}, never);
    assert.doesNotMatch((await shown()).join(""), /tbf|limit rate/);
    await assert.rejects(networks.setLimit(ID, { opsPerS: 0.5 }, never), { code: "input.invalid" });
    await remove();
    await assert.rejects(networks.setLimit(ID, limit, never), { code: "input.invalid" });
    assert.equal(await hostState(), before);
  },

  async taken() {
    await route6();
    const address = async (): Promise<string> => {
      const [, found = ""] = /uplink +inet (198\.18\.[\d.]+)/.exec(await inside("ip", "-o", "addr")) ?? [];
      return found;
    };
    await make();
    const first = await address();
    await remove();
    await tell("ip", "link", "add", "theirs", "type", "bridge");
    await tell("ip", "link", "set", "theirs", "up");
    await tell("ip", "route", "add", first, "dev", "theirs");
    const before = await hostState();
    await make();
    const second = await address();
    assert.notEqual(second, first);
    const [rules, addresses] = [await inside("nft", "list", "ruleset"), await inside("ip", "-6", "addr")];
    assert.match(rules, new RegExp(`snat ip to ${second}\n`));
    assert.equal(rules.match(/snat ip to/g)?.length, 1, "no rule for the first address is left");
    const [, second6 = ""] = /snat ip6 to (\S+)\n/.exec(rules) ?? [];
    assert.deepEqual(addresses.match(/fd59:6db4:8e91:1::\S+/g), [`${second6}/128`]);
    assert.match(await tell("ip", "-6", "route"), new RegExp(`^${second6} dev hvmaaaaaaaaaaaa`, "m"));
    assert.match(await tell("ip", "route"), new RegExp(`^${second} dev hvmaaaaaaaaaaaa`, "m"));
    await remove();
    assert.equal(await hostState(), before, "the other route is there");
  },

  async flushed() {
    writeFileSync(FORWARDING, "0");
    const before = await hostState();
    const other = parseVmId("vm-bbbbbbbbbbbb");
    const rules = (): Promise<string> => tell("nft", "list", "table", "inet", "hearth");
    await make();
    const whole = await rules();
    await tell("nft", "flush", "ruleset");
    await make(other);
    assert.equal(await rules(), whole, "what somebody has flushed is there again");
    await remove(other);
    await tell("nft", "flush", "ruleset");
    await remove();
    assert.equal(await hostState(), before, "the host is no router again");
  },

  async contend() {
    const before = await hostState();
    const ids = Array.from({ length: 8 }, (_, index) => parseVmId(`vm-${"abcdefgh"[index]?.repeat(12)}`));
    await Promise.all(ids.map(make));
    const routes = await tell("ip", "route");
    const addresses = [...routes.matchAll(/^(198\.18\.\S+) dev hvm/gm)].map(([, address]) => address);
    assert.equal(new Set(addresses).size, ids.length);
    await Promise.all(ids.map(remove));
    assert.equal(await hostState(), before);
  },

  async fail() {
    const before = await hostState();
    await tell("ip", "link", "add", "hvmaaaaaaaaaaaa", "type", "bridge"); // In the way of the VM's link.
    await assert.rejects(make(), { code: "host.tool_failed" });
    assert.deepEqual(networks.list(), []);
    for (const wrong of [
      { ...NETWORK, mac: "02:00:00:00:00:0a drop" },
      { ...NETWORK, resolver: "example.org" },
      { ...NETWORK, policy: { default: "allow", rules: [{ action: "allow", to: "10.0.0.0/33" }] } as const },
    ])
      await assert.rejects(networks.make(ID, wrong, never), { code: "input.invalid" });
    for (const ms of [1, 5, 10, 20, 40]) {
      const late = AbortSignal.timeout(ms);
      await networks.make(ID, NETWORK, late).catch(() => {}); // It is cancelled, or made: both are removed.
      await remove();
    }
    assert.equal(await hostState(), before);
  },

  async killed() {
    await route6();
    const before = await hostState();
    for (const ms of [2, 5, 8, 12, 16, 20, 25, 30, 40, 80]) {
      const argv = [fileURLToPath(import.meta.url), "make", dir, String(ms)];
      const killed = await run(process.execPath, argv, { timeoutMs: 30_000, signal: never });
      assert.ok(!killed.ok || killed.stdout === "made");
      await remove();
      assert.equal(await hostState(), before, `killed after ${ms} ms`);
      assert.ok(!existsSync(networks.path(ID)));
    }
  },

  async make() {
    setTimeout(() => process.kill(process.pid, "SIGKILL"), Number(killAfterMs));
    const publish = [{ address: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" }] as const;
    await networks.make(ID, { ...NETWORK, publish }, never);
    process.stdout.write("made");
  },
};

await SCENARIOS[scenario]?.();
if (scenario !== "make") process.stdout.write("done\n");
