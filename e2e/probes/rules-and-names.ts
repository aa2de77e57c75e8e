/** Probes over the rules of a user's own: their order, networks, ports and protocols; and domains. */
import { HOST, PEERS } from "../private-internet.ts";
import { frame, handshake, ping, query, request, tcp, udp } from "./packets.ts";
import type { Packet } from "./packets.ts";
import type { Probe, Twin, Verdict } from "./probe.ts";

const EDGE = "198.51.100.127";

function ruled(id: string, says: string, packet: Packet, twin: Packet): Probe {
  const answered = { packet: twin, verdict: "answered" } as const;
  return { id: `rules-${id}`, says, policy: "rules", packet, verdict: "rejected", twin: answered };
}

/** Returns a probe with a protocol that no rule is about. */
function protocol(name: "gre" | "ipip" | "ipv6", says: string): Probe {
  const packet = frame({ protocol: name, to: { of: "unused" } });
  const twin = { packet, policy: "internet", verdict: "arrives" } as const;
  return { id: `rules-${name}`, says, policy: "rules", packet, verdict: "dropped", twin };
}

const FIRST = tcp(PEERS.public, 7);

export const RULE_PROBES: readonly Probe[] = [
  ruled("order", "The first rule that matches decides.", tcp("198.51.100.128", 7), tcp(EDGE, 7)),
  ruled(
    "last-of-denied",
    "A denied network is denied up to its end.",
    tcp("198.51.100.255", 7),
    tcp(EDGE, 7),
  ),
  ruled("beyond", "An allowed network ends where it says.", tcp("198.51.101.0", 7), FIRST),
  ruled("before", "An allowed network begins where it says.", tcp("198.51.99.255", 7), FIRST),
  ruled("port-before", "An allowed range of ports begins where it says.", tcp(PEERS.public, 6), FIRST),
  ruled(
    "port-beyond",
    "An allowed range of ports ends where it says.",
    tcp(PEERS.public, 20),
    tcp(PEERS.public, 19),
  ),
  ruled("udp-port", "Ports of TCP are not those of UDP.", udp(PEERS.public, 19), udp(PEERS.public, 7)),
  ruled(
    "private-port",
    "A private address has the ports of its rule alone.",
    tcp(PEERS.private, 443),
    tcp(PEERS.private, 80),
  ),
  ruled(
    "private-udp",
    "A private address has the protocol of its rule alone.",
    udp(PEERS.private, 80),
    tcp(PEERS.private, 80),
  ),
  ruled(
    "private-beside",
    "A rule for one address does not open the next one.",
    tcp("10.1.2.4", 80),
    tcp(PEERS.private, 80),
  ),
  ruled("icmp", "Pings are allowed where a rule says so.", ping(EDGE), ping(PEERS.public)),
  ruled("default", "An address without a rule follows the default.", tcp("192.0.2.1", 7), FIRST),
  ruled("host", "A rule does not open the host.", tcp(HOST, 80), FIRST),
  ruled("host-udp", "A rule does not open the host's ports of UDP.", udp(HOST, 7), FIRST),
  ruled("host-icmp", "A rule does not let the host answer pings.", ping(HOST), ping(PEERS.public)),
  ruled("host-link", "A rule does not open the host's end of a link.", tcp("198.18.0.1", 80), FIRST),
  ruled("other-vm", "A rule does not open another VM.", tcp({ of: "other" }, 80), FIRST),
  ruled("other-vm-udp", "A rule does not open another VM's ports of UDP.", udp({ of: "other" }, 7), FIRST),
  ruled(
    "other-vm-icmp",
    "A rule does not let another VM answer pings.",
    ping({ of: "other" }),
    ping(PEERS.public),
  ),
  protocol("gre", "GRE is a protocol of its own."),
  protocol("ipip", "IP in IP is a protocol of its own."),
  protocol("ipv6", "IPv6 in IPv4 is a protocol of its own."),
  {
    id: "rules-middle-of-connection",
    says: "A packet without a connection is decided like a connection.",
    policy: "rules",
    packet: frame({ flags: "ACK", ports: { from: 0, to: 80 } }),
    verdict: "dropped",
    twin: { packet: frame({ flags: "ACK", ports: { from: 0, to: 7 } }), verdict: "arrives" },
  },
];

/** Names that the resolver of the test has, each with the address that its first label tells. */
const NAME = "198-51-100-20.example";
const ADDRESS = "198.51.100.20";
const CHECKED = { name: "198-51-100-30.checked.test", address: "198.51.100.30" };
const IMPOSTOR = { name: "198-51-100-31.checked.test", address: "198.51.100.31" };
const QUIC = { name: "198-51-100-40.quic.test", address: "198.51.100.40" };
const CHECKED_PORT = 8443;
/** The names whose addresses the guest learns. */
const LEARNED = ["one.test", NAME, CHECKED.name, IMPOSTOR.name, QUIC.name];

function named(id: string, says: string, verdict: Verdict, packet: Packet, twin: Packet | Twin): Probe {
  const answered = "packet" in twin ? twin : ({ packet: twin, verdict: "answered" } as const);
  const asks = id === "unasked" ? [] : LEARNED;
  return { id: `names-${id}`, says, policy: "names", packet, verdict, twin: answered, asks };
}

const OWN_NAME = query(NAME);
const WEB = tcp(ADDRESS, 80);
const SAID = handshake(CHECKED.address, CHECKED_PORT, { name: CHECKED.name });
const ASKED = request(CHECKED.address, CHECKED.name);

export const NAME_PROBES: readonly Probe[] = [
  named("unasked", "An address is closed before its name was asked for.", "rejected", WEB, OWN_NAME),
  named("other", "A name that no rule has is refused.", "refused", query("other.test"), OWN_NAME),
  named("parent", "A pattern does not have the name itself.", "refused", query("example"), OWN_NAME),
  named(
    "below",
    "A name does not have the names below it.",
    "refused",
    query("a.one.test"),
    query("one.test"),
  ),
  named("suffix", "The end of a name is not a domain.", "refused", query("notexample"), OWN_NAME),
  named(
    "over-tcp",
    "A name that no rule has is refused over TCP.",
    "refused",
    query("other.test", { over: "TCP" }),
    query(NAME, { over: "TCP" }),
  ),
  named("rebinding", "A name has no private address.", "empty", query("private.example"), OWN_NAME),
  named(
    "rebinding-metadata",
    "A name does not have the address of a metadata server.",
    "empty",
    query("169-254-169-254.example"),
    OWN_NAME,
  ),
  named(
    "rebinding-host",
    "A name does not have an address of the host's links.",
    "empty",
    query("198-18-0-1.example"),
    OWN_NAME,
  ),
  named("aaaa", "A name has no address of IPv6.", "empty", query(NAME, { type: "AAAA" }), OWN_NAME),
  named("https", "A name has no HTTPS record.", "empty", query(NAME, { type: "HTTPS" }), OWN_NAME),
  named("port", "An address has the ports of its rule alone.", "rejected", tcp(ADDRESS, 7), WEB),
  named(
    "port-beyond",
    "The ports of an address end where the rule says.",
    "rejected",
    tcp(ADDRESS, 444),
    tcp(ADDRESS, 443),
  ),
  named(
    "udp",
    "The ports of an address are those of TCP, unless its rule says otherwise.",
    "rejected",
    udp(ADDRESS, 80),
    WEB,
  ),
  named(
    "icmp",
    "An address with allowed ports answers no pings.",
    "rejected",
    ping(ADDRESS),
    ping(PEERS.public),
  ),
  named("neighbour", "The next address is closed.", "rejected", tcp("198.51.100.21", 80), WEB),
  named(
    "rogue-dns",
    "Another resolver is closed.",
    "rejected",
    udp("198.51.100.53", 53),
    openIn("internet", udp("198.51.100.53", 53)),
  ),
  named(
    "rogue-dns-tcp",
    "Another resolver is closed over TCP.",
    "rejected",
    tcp("198.51.100.53", 53),
    openIn("internet", tcp("198.51.100.53", 53)),
  ),
  named(
    "dot",
    "DNS over TLS is closed.",
    "rejected",
    tcp("198.51.100.53", 853),
    openIn("internet", tcp("198.51.100.53", 853)),
  ),
  named("doh", "DNS over HTTPS is closed.", "rejected", tcp("198.51.100.53", 443), tcp(ADDRESS, 443)),
  named(
    "quic",
    "QUIC is closed, unless a rule is about UDP.",
    "rejected",
    udp(ADDRESS, 443),
    udp(QUIC.address, 443),
  ),
  named("metadata", "A metadata server is closed.", "rejected", tcp(PEERS.metadata, 80), WEB),
  named("host", "The host is closed.", "rejected", tcp(HOST, 80), WEB),
  named("checker", "The resolver's own ports are closed.", "rejected", tcp("192.0.0.1", CHECKED_PORT), SAID),
  named(
    "checked-port",
    "A checked name has the ports of its rule alone.",
    "rejected",
    tcp(CHECKED.address, 443),
    SAID,
  ),
  named("checked-quic", "A checked name has no QUIC.", "rejected", udp(CHECKED.address, CHECKED_PORT), SAID),
  named(
    "false-sni",
    "A handshake for another name is reset.",
    "reset",
    handshake(CHECKED.address, CHECKED_PORT, { name: "other.test" }),
    SAID,
  ),
  named(
    "allowed-elsewhere",
    "A handshake for a name that another rule has is reset.",
    "reset",
    handshake(CHECKED.address, CHECKED_PORT, { name: NAME }),
    SAID,
  ),
  named(
    "no-sni",
    "A handshake without a name is reset.",
    "reset",
    handshake(CHECKED.address, CHECKED_PORT, { name: "" }),
    SAID,
  ),
  named(
    "ech",
    "A handshake whose name is encrypted is reset.",
    "reset",
    handshake(CHECKED.address, CHECKED_PORT, { name: "other.test", hidden: CHECKED.name }),
    SAID,
  ),
  named(
    "no-tls",
    "What is not TLS is reset, where TLS is checked.",
    "reset",
    tcp(CHECKED.address, CHECKED_PORT),
    SAID,
  ),
  named(
    "other-certificate",
    "Certificates are for clients to check: Hearth does not decrypt.",
    "untrusted",
    handshake(IMPOSTOR.address, CHECKED_PORT, { name: IMPOSTOR.name, verify: true }),
    handshake(CHECKED.address, CHECKED_PORT, { name: CHECKED.name, verify: true }),
  ),
  named(
    "false-host",
    "An HTTP request for another host is forbidden.",
    "forbidden",
    request(CHECKED.address, "other.test"),
    ASKED,
  ),
  named(
    "no-host",
    "An HTTP request without a host is forbidden.",
    "forbidden",
    request(CHECKED.address, ""),
    ASKED,
  ),
];

function openIn(policy: "internet", packet: Packet): Twin {
  return { packet, policy, verdict: "answered" };
}

/** The endpoints of the Internet that twins need, beside those of every private Internet. */
export const ENDPOINTS: readonly string[] = [
  ...[PEERS.public, PEERS.private, PEERS.metadata].map((address) => `udp:${address}:7`),
  ...[53, 123, 443].map((port) => `udp:${PEERS.public}:${port}`),
  ...[53, 853].flatMap((port) => [`tcp:${PEERS.public}:${port}`, `tcp:198.51.100.53:${port}`]),
  "udp:198.51.100.53:53",
  `udp:${QUIC.address}:443`,
  `tls:${CHECKED.address}:${CHECKED_PORT}:${CHECKED.name}`,
  `tls:${IMPOSTOR.address}:${CHECKED_PORT}:other.test`,
];
