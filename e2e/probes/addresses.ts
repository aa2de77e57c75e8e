/** Probes over the addresses that no default includes: special networks, the host, other VMs, the VM's own network. */
import { HOST, PEERS } from "../private-internet.ts";
import { frame, ping, query, tcp, udp } from "./packets.ts";
import type { Packet } from "./packets.ts";
import type { Probe, Twin } from "./probe.ts";

const PUBLIC: Twin = { packet: tcp(PEERS.public, 80), verdict: "answered" };

/** Returns a probe under the default policy, which another policy would allow. */
function closedByDefault(id: string, says: string, packet: Packet): Probe {
  const twin = { packet, policy: "open", verdict: "answered" } as const;
  return { id, says, policy: "internet", packet, verdict: "rejected", twin };
}

/** Returns a probe to the last address of a special network, and one to an address just beyond it. */
function lastOf(network: string, last: string, beyond: string): Probe {
  const id = `last-of-${network.replaceAll(/[./]/g, "-")}`;
  const twin = { packet: tcp(beyond, 80), verdict: "answered" } as const;
  const says = `All of ${network} is closed by default, and nothing beyond it.`;
  return { id, says, policy: "internet", packet: tcp(last, 80), verdict: "rejected", twin };
}

const SPECIAL: readonly Probe[] = [
  closedByDefault("metadata-tcp", "The metadata server of a cloud is closed.", tcp(PEERS.metadata, 80)),
  closedByDefault(
    "metadata-udp",
    "The metadata server of a cloud is closed over UDP.",
    udp(PEERS.metadata, 7),
  ),
  closedByDefault("metadata-icmp", "The metadata server of a cloud answers no pings.", ping(PEERS.metadata)),
  closedByDefault(
    "metadata-of-tasks",
    "The metadata server of containers at AWS is closed.",
    tcp("169.254.170.2", 80),
  ),
  closedByDefault(
    "metadata-alibaba",
    "The metadata server of Alibaba Cloud is closed.",
    tcp("100.100.100.200", 80),
  ),
  closedByDefault("private-tcp", "A private network is closed.", tcp(PEERS.private, 80)),
  closedByDefault("private-udp", "A private network is closed over UDP.", udp(PEERS.private, 7)),
  closedByDefault("private-icmp", "A private network answers no pings.", ping(PEERS.private)),
  closedByDefault("reserved", "Reserved addresses are closed.", tcp("240.0.0.1", 80)),
  closedByDefault("this-network", "The addresses of 0.0.0.0/8 are closed.", tcp("0.1.2.3", 80)),
  lastOf("10.0.0.0/8", "10.255.255.254", "11.0.0.1"),
  lastOf("100.64.0.0/10", "100.127.255.254", "100.128.0.1"),
  lastOf("169.254.0.0/16", "169.254.255.254", "169.255.0.1"),
  lastOf("172.16.0.0/12", "172.31.255.254", "172.32.0.1"),
  lastOf("192.0.0.0/24", "192.0.0.254", "192.0.1.1"),
  lastOf("192.168.0.0/16", "192.168.255.254", "192.169.0.1"),
  lastOf("198.18.0.0/15", "198.19.255.254", "198.20.0.1"),
];

/** The host's second address, which its default route does not show. */
export const SECOND_HOST_ADDRESS = "192.0.2.2";
/** The port at which the host publishes a port of another VM. */
export const PUBLISHED_PORT = 8081;

/** Addresses of the host and of other VMs, which no policy opens. */
const NEVER: readonly (readonly [id: string, says: string, packet: Packet])[] = [
  ["host-tcp", "A port of the host is closed.", tcp(HOST, 80)],
  ["host-udp", "A port of the host is closed over UDP.", udp(HOST, 7)],
  ["host-icmp", "The host answers no pings.", ping(HOST)],
  ["host-second-address", "Each address of the host is closed.", tcp(SECOND_HOST_ADDRESS, 80)],
  ["host-published-port", "Ports that other VMs publish are closed.", tcp(HOST, PUBLISHED_PORT)],
  ["host-link", "The host's end of the VM's link is closed.", tcp("198.18.0.1", 80)],
  ["host-link-udp", "The host's end of the VM's link is closed over UDP.", udp("198.18.0.1", 7)],
  ["gateway-tcp", "The VM's network namespace has no open port.", tcp("192.0.0.1", 80)],
  ["gateway-udp", "The VM's network namespace has no open port of UDP.", udp("192.0.0.1", 9)],
  ["gateway-icmp", "The VM's network namespace answers no pings.", ping("192.0.0.1")],
  ["own-address", "The VM's own address on the host is closed.", tcp({ of: "own" }, 80)],
  ["other-vm-tcp", "Another VM is closed.", tcp({ of: "other" }, 80)],
  ["other-vm-udp", "Another VM is closed over UDP.", udp({ of: "other" }, 7)],
  ["other-vm-icmp", "Another VM answers no pings.", ping({ of: "other" })],
];

const CLOSED: readonly Probe[] = [
  closed("closed-tcp", "Without rules, nothing is reached over TCP.", tcp(PEERS.public, 80)),
  closed("closed-udp", "Without rules, nothing is reached over UDP.", udp(PEERS.public, 7)),
  closed("closed-icmp", "Without rules, nothing is reached by a ping.", ping(PEERS.public)),
  closed("closed-dns", "Without rules, no other resolver is reached.", udp(PEERS.public, 53)),
  closed("closed-dns-tcp", "Without rules, no other resolver is reached over TCP.", tcp(PEERS.public, 53)),
  closed("closed-dot", "Without rules, no DNS over TLS is reached.", tcp(PEERS.public, 853)),
  closed("closed-doh", "Without rules, no DNS over HTTPS is reached.", tcp(PEERS.public, 443)),
  closed("closed-quic", "Without rules, no QUIC is reached.", udp(PEERS.public, 443)),
  closed("closed-ntp", "Without rules, no time server is reached.", udp(PEERS.public, 123)),
  {
    id: "closed-gateway",
    says: "The VM's resolver answers, and nothing else of its network namespace does.",
    policy: "closed",
    packet: udp("192.0.0.1", 54),
    verdict: "rejected",
    twin: { packet: query("name.example"), verdict: "answered" },
  },
];

function closed(id: string, says: string, packet: Packet): Probe {
  const twin = { packet, policy: "internet", verdict: "answered" } as const;
  return { id, says, policy: "closed", packet, verdict: "rejected", twin };
}

/** Packets to groups and to all. The network namespace is no member of any group, and routes none. */
const GROUPS: readonly Probe[] = [
  group("mdns", "Multicast DNS is heard by nobody.", "224.0.0.251", "01:00:5e:00:00:fb", 5353),
  group("ssdp", "The search of UPnP is heard by nobody.", "239.255.255.250", "01:00:5e:7f:ff:fa", 1900),
  group("all-hosts", "The group of all hosts is not reached.", "224.0.0.1", "01:00:5e:00:00:01", 7),
  group("routed-group", "No group is routed.", "233.252.0.1", "01:00:5e:7c:00:01", 7),
  group("broadcast", "No broadcast is routed.", "255.255.255.255", "ff:ff:ff:ff:ff:ff", 7),
  group(
    "link-broadcast",
    "No broadcast to the VM's own link is routed.",
    "192.0.0.7",
    "ff:ff:ff:ff:ff:ff",
    7,
  ),
];

function group(id: string, says: string, to: string, targetMac: string, port: number): Probe {
  const ports = { from: 4000, to: port };
  const packet = frame({ to, targetMac, ports });
  const twin = { packet: frame({ ports }), verdict: "arrives" } as const;
  return { id, says, policy: "open", packet, verdict: "dropped", twin };
}

export const ADDRESS_PROBES: readonly Probe[] = [
  ...SPECIAL,
  ...(["internet", "open"] as const).flatMap((policy) =>
    NEVER.map(([id, says, packet]): Probe => {
      const isOpen = policy === "open";
      return {
        id: isOpen ? `open-${id}` : id,
        says: isOpen ? says.replace(/\.$/, ", also if all is allowed.") : says,
        policy,
        packet,
        verdict: "rejected",
        twin: PUBLIC,
      };
    }),
  ),
  ...CLOSED,
  ...GROUPS,
];
