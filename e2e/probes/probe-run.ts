/**
 * Runs the table of probes on one VM:
 *
 *  1. Packets are watched at each interface between the guest and the Internet, and in another VM's network.
 *  2. The policies come one after the other, each by a change of the running VM, the first as the VM has it already.
 *  3. Under each, the guest sends the probes and their twins in the order of the table.
 *  4. A probe holds if the guest saw its verdict, and its packet was seen only where that verdict has it.
 */
import type { Bed } from "../bed.ts";
import { VmNamespace } from "../vm-namespace.ts";
import type { PrivateInternet } from "../private-internet.ts";
import { frame, query, stepOf } from "./packets.ts";
import type { Packet, Scene, Step } from "./packets.ts";
import { POLICIES } from "./probe.ts";
import type { PolicyName, Verdict } from "./probe.ts";
import { takeSteps, Watch } from "./prober.ts";
import type { Outcome, Sighting } from "./prober.ts";
import { PROBES } from "./table.ts";

/** The hosts and VMs around a VM that is tested. */
export type Surroundings = {
  readonly bed: Bed;
  readonly internet: PrivateInternet;
  readonly prober: string;
  /** The name of the other VM. */
  readonly other: string;
};

/** A packet that is sent under a policy, or a name that is asked for before. */
type Sent = { readonly id: string; readonly packet: Packet; readonly verdict?: Verdict };
type Group = { readonly policy: PolicyName; readonly sent: readonly Sent[] };

/** The step after all others of a group. */
const LAST = { id: "last", packet: frame({ to: "192.0.0.1", ports: { from: 4000, to: 9 } }) };

/** Ports of connections differ, so that each is a new one to every connection tracker on its way. */
let ports = 0;
let runs = 0;
const nextPort = (): number => 20_000 + (ports++ % 10_000);

/**
 * Tests all probes on a VM whose policy is `first`, and is it again afterwards.
 * @returns what is wrong with those that do not hold, by their ids
 */
export async function runProbes(
  vm: string,
  first: PolicyName,
  { bed, internet, prober, other }: Surroundings,
): Promise<Map<string, string[]>> {
  const [own, others] = await Promise.all([vm, other].map((name) => bed.vm(name)));
  const files = { vm: namespaceFile(own?.id), other: namespaceFile(others?.id), ...internet.namespaces };
  const namespace = new VmNamespace(internet, own?.id ?? "");
  const scene: Scene = {
    mac: (await bed.sh(vm, "cat /sys/class/net/eth0/address")).trim(),
    own: await addressOf(namespace),
    other: await addressOf(new VmNamespace(internet, others?.id ?? "")),
    unused: `192.0.2.${100 + runs++}`,
  };
  await using delivered = await countDelivered(namespace, internet);
  using watch = await Watch.start(prober, files);
  const faults = new Map<string, string[]>();
  const handle = (await bed.connect()).vm(vm);
  for (const { policy, sent } of groupsFrom(first)) {
    if (policy !== first) await handle.set({ policy: POLICIES[policy].policy });
    const steps = [...sent, LAST].map(({ id, packet }) => stepOf(packet, id, nextPort(), scene));
    const outcomes = await takeSteps(bed, vm, steps);
    const seen = await watch.until(LAST.id);
    for (const [index, one] of sent.entries()) {
      const found = faultsOf(one, steps[index], outcomes[index], seen);
      const probe = one.id.replace(/-twin$/, "");
      if (found.length > 0) faults.set(probe, [...(faults.get(probe) ?? []), ...found]);
    }
    const local = await delivered.packets();
    if (local !== "") faults.set(`all of ${policy}`, [`packets were delivered: ${local}`]);
  }
  await handle.set({ policy: POLICIES[first].policy });
  return faults;
}

/** Returns the probes and twins of each policy, beginning with this one. */
function groupsFrom(first: PolicyName): Group[] {
  const names = Object.keys(POLICIES) as PolicyName[];
  const order = [first, ...names.filter((name) => name !== first)];
  return order.map((policy) => ({ policy, sent: sentUnder(policy) }));
}

function sentUnder(policy: PolicyName): Sent[] {
  const sent = new Map<string, Sent>();
  for (const { id, packet, verdict, twin, asks = [], policy: own } of PROBES) {
    if (own === policy) {
      const asked = asks.map((name) => ({ id: `asks-${name.replaceAll(".", "-")}`, packet: query(name) }));
      for (const one of [...asked, { id, packet, verdict }]) if (!sent.has(one.id)) sent.set(one.id, one);
    }
    const twinId = `${id}-twin`;
    if ((twin.policy ?? own) === policy) sent.set(twinId, { id: twinId, ...twin });
  }
  return [...sent.values()];
}

type Place = "guest" | "namespace" | "host" | "internet" | "other VM";

/** Tells how far a packet came that was seen so. Undefined: it is an answer, or an error about it. */
function placeOf({ place, link, leaves }: Sighting): Place | undefined {
  if (place === "other") return "other VM";
  if (place === "vm" && link === "tap0" && !leaves) return "guest";
  if (place === "vm" && link === "uplink" && leaves) return "namespace";
  if (place === "host" && link === "wan" && leaves) return "host";
  return place === "internet" && link === "eth0" && !leaves ? "internet" : undefined;
}

const EVERYWHERE: readonly Place[] = ["guest", "namespace", "host", "internet"];
/** The places at which a packet with a verdict may be seen. Where the host decides, it has left the VM's namespace. */
const MAY_BE_SEEN: Readonly<Record<Verdict, readonly Place[]>> = {
  rejected: ["guest", "namespace"],
  dropped: ["guest"],
  refused: ["guest"],
  empty: ["guest"],
  reset: ["guest"],
  forbidden: ["guest"],
  answered: EVERYWHERE,
  arrives: EVERYWHERE,
  untrusted: EVERYWHERE,
};

/** Returns what differs from the verdict. */
function faultsOf(
  { id, packet, verdict }: Sent,
  step: Step | undefined,
  outcome: Outcome | undefined,
  sightings: readonly Sighting[],
): string[] {
  if (verdict === undefined) return [];
  const own = sightings.filter((one) => one.id === id || one.fromPort === step?.fromPort);
  const seen = new Set(own.map(placeOf).filter((place) => place !== undefined));
  const isFrame = verdict === "dropped" || verdict === "arrives";
  const expected = isFrame ? "sent" : verdict;
  const said = outcome?.detail?.startsWith("HTTP/1.1 403") ? "forbidden" : outcome?.outcome;
  const beyond = [...seen].filter((place) => !MAY_BE_SEEN[verdict].includes(place));
  const faults = [
    ...(said === expected ? [] : [`the guest saw ${said} ${outcome?.detail ?? ""}`]),
    ...(isFrame && !seen.has("guest") ? ["it did not leave the guest"] : []),
    ...(verdict === "arrives" && !seen.has("internet") ? ["it did not arrive"] : []),
    ...beyond.map((place) => `it was seen at the ${place}`),
  ];
  return faults.map((fault) => `${id} (${packet.text}): ${verdict}, but ${fault}`);
}

function namespaceFile(id: string | undefined): string {
  return `/run/hearth/netns/${id}`;
}

async function addressOf(namespace: VmNamespace): Promise<string> {
  const links = JSON.parse(await namespace.run(["ip", "-j", "-4", "addr", "show", "dev", "uplink"]));
  return (links as [{ addr_info: [{ local: string }] }])[0].addr_info[0].local;
}

/** Counts what is delivered to the VM's namespace and to the host past their rules, but for the resolver's ports. */
async function countDelivered(namespace: VmNamespace, internet: PrivateInternet) {
  const hook = "type filter hook input priority filter + 5";
  const own = `iifname "tap0" udp dport != 53 counter; iifname "tap0" tcp dport != { 53, 8080, 8443 } counter`;
  const inside = `${hook}; ${own}; iifname "tap0" meta l4proto != { tcp, udp } counter`;
  const programs = [inside, `${hook}; iifname "hvm*" ct state new counter`].map(
    (rules) => `table inet probes { chain seen { ${rules}; }; }\n`,
  );
  const places = [
    (argv: readonly string[], stdin = ""): Promise<string> => namespace.run(argv, stdin),
    (argv: readonly string[], stdin = ""): Promise<string> => internet.onHost(argv, { stdin }),
  ];
  const everywhere = <Result>(act: (run: (typeof places)[number], index: number) => Promise<Result>) =>
    Promise.all(places.map(act));
  await everywhere((run, index) => run(["nft", "-f", "-"], programs[index]));
  return {
    /** Returns the rules that have counted packets. */
    packets: async (): Promise<string> => {
      const listed = await everywhere((run) => run(["nft", "list", "table", "inet", "probes"]));
      const counted = /^.*counter packets [1-9].*$/gm;
      return listed.flatMap((rules) => rules.match(counted) ?? []).join("; ");
    },
    [Symbol.asyncDispose]: async () =>
      void (await everywhere((run) => run(["nft", "delete", "table", "inet", "probes"]))),
  };
}
