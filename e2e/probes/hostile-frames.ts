/** Probes with frames that no program of a guest sends, and a guest's root can. */
import { INSIDE } from "#model/inside-addresses.ts";
import { HOST, PEERS } from "../private-internet.ts";
import * as frames from "./frames.ts";
import { frame, packetOf, raw } from "./packets.ts";
import type { Changes, Packet, Scene } from "./packets.ts";
import type { Probe } from "./probe.ts";

const FOREIGN_MAC = "02:00:00:00:00:99";
const EVERY_MAC = "ff:ff:ff:ff:ff:ff";

/** Returns a probe with a changed frame, and the frame without one of these changes. All addresses are allowed. */
function changed(id: string, says: string, changes: Changes, twin: Changes = {}): Probe {
  return dropped(id, says, frame(changes), frame(twin));
}

function dropped(id: string, says: string, packet: Packet, twin = frame()): Probe {
  return { id, says, policy: "open", packet, verdict: "dropped", twin: { packet: twin, verdict: "arrives" } };
}

const SPOOFED: readonly Probe[] = [
  changed("spoofed-mac", "A frame with another MAC address is dropped.", { sourceMac: FOREIGN_MAC }),
  changed("gateway-mac", "A frame with the gateway's MAC address is dropped.", {
    sourceMac: INSIDE.gatewayMac,
  }),
  changed("group-mac", "A frame whose source is a group is dropped.", { sourceMac: "01:00:5e:00:00:01" }),
  changed("spoofed-neighbour", "A packet of another IP address is dropped.", { from: "192.0.0.3" }),
  changed("spoofed-gateway", "A packet of the gateway is dropped.", { from: INSIDE.gateway }),
  changed("spoofed-host", "A packet of the host is dropped.", { from: HOST }),
  changed("spoofed-link", "A packet of the host's end of the link is dropped.", { from: "198.18.0.1" }),
  changed("spoofed-public", "A packet of a public address is dropped.", { from: "203.0.113.99" }),
  changed("spoofed-peer", "A packet of the peer itself is dropped.", { from: PEERS.public }),
  changed("spoofed-loopback", "A packet of a loopback is dropped.", { from: "127.0.0.1" }),
  changed("spoofed-none", "A packet without an address is dropped.", { from: "0.0.0.0" }),
  changed("spoofed-all", "A packet of all hosts is dropped.", { from: "255.255.255.255" }),
  changed("spoofed-to-host", "A packet of another IP address to the host is dropped.", {
    from: "203.0.113.99",
    to: HOST,
  }),
  changed(
    "spoofed-tcp",
    "A TCP connection of another IP address is dropped.",
    { from: "192.0.0.3", flags: "SYN" },
    { flags: "SYN" },
  ),
  changed("other-target-mac", "A frame to another card than the gateway's is not routed.", {
    targetMac: FOREIGN_MAC,
  }),
  changed("broadcast-mac", "A frame to all cards is not routed.", { targetMac: EVERY_MAC }),
  changed("vlan", "A frame with a VLAN tag is not routed.", { vlans: [5] }),
  changed("vlan-in-vlan", "A frame with two VLAN tags is not routed.", { vlans: [5, 6] }),
  changed("loopback", "Nothing is sent to a loopback.", { to: "127.0.0.1" }),
  changed(
    "loopback-port",
    "Nothing is sent to a port of a loopback.",
    { to: "127.0.0.1", flags: "SYN" },
    { flags: "SYN" },
  ),
];

const ROUTE = { text: "to 10.1.2.3 by way of it (loose source route)", bytes: [131, 7, 4, 10, 1, 2, 3, 0] };
const STRICT = { text: "to 10.1.2.3 by way of it (strict source route)", bytes: [137, 7, 4, 10, 1, 2, 3, 0] };
const RECORD = { text: "with a record of its route", bytes: [7, 7, 4, 0, 0, 0, 0, 0] };

const MALFORMED: readonly Probe[] = [
  changed("wrong-ip-checksum", "A packet whose header has a wrong checksum is dropped.", {
    wrong: "IP checksum",
  }),
  changed("wrong-udp-checksum", "A UDP packet with a wrong checksum is dropped.", { wrong: "UDP checksum" }),
  changed(
    "wrong-tcp-checksum",
    "A TCP packet with a wrong checksum is dropped.",
    { flags: "SYN", wrong: "TCP checksum" },
    { flags: "SYN" },
  ),
  changed("no-hops-left", "A packet without hops left is not routed.", { ttl: 1 }),
  changed(
    "source-route",
    "A packet that chooses its route is dropped.",
    { options: ROUTE },
    { options: RECORD },
  ),
  changed(
    "strict-route",
    "A packet that chooses all of its route is dropped.",
    { options: STRICT },
    { options: RECORD },
  ),
  changed(
    "route-by-gateway",
    "A packet that chooses a route by way of the gateway is dropped.",
    { options: ROUTE, to: INSIDE.gateway },
    { options: RECORD },
  ),
  changed("no-syn-fin", "A TCP packet with SYN and FIN is dropped.", { flags: "SYN FIN" }, { flags: "SYN" }),
  changed("no-flags", "A TCP packet without flags is dropped.", { flags: "" }, { flags: "SYN" }),
  changed(
    "all-flags",
    "A TCP packet with all flags is dropped.",
    { flags: "FIN SYN RST PSH ACK URG" },
    { flags: "SYN" },
  ),
  changed("reset-of-none", "A reset of no connection is dropped.", { flags: "RST" }, { flags: "SYN" }),
  changed(
    "flood-of-resets",
    "Resets of no connection are dropped, however many.",
    { flags: "RST", times: 300 },
    { flags: "SYN" },
  ),
  changed("answer-of-none", "An answer to no connection is dropped.", { flags: "SYN ACK" }, { flags: "SYN" }),
];

const FRAGMENTS: readonly Probe[] = [
  dropped(
    "fragment-alone",
    "The end of a packet without its beginning is dropped.",
    inParts("the last alone", 77, [1]),
    inParts("both", 78, [0, 1]),
  ),
  dropped(
    "fragments-to-host",
    "A packet in parts is decided as a whole: to the host.",
    inParts("both", 79, [0, 1], { to: "127.0.0.1" }),
    inParts("both", 80, [0, 1]),
  ),
  dropped("fragments-overlap", "Parts that overlap are dropped.", overlapping(), inParts("both", 82, [0, 1])),
];

/** Returns a UDP packet in two parts, of which these are sent. The first has no more than the header of UDP. */
function inParts(said: string, id: number, sent: readonly number[], changes: Changes = {}): Packet {
  const to = typeof changes.to === "string" ? `${changes.to}:7` : `${PEERS.public}:7`;
  return raw(`frames: UDP ${to} in two parts, ${said}`, (scene, mark) => {
    const parts = splitAt(8, packetOf(changes, scene, mark), id);
    return sent.map((index) => toGateway(scene, parts[index] ?? Buffer.alloc(0)));
  });
}

function overlapping(): Packet {
  return raw(`frames: UDP ${PEERS.public}:7 in parts, two of which overlap`, (scene, mark) => {
    const whole = packetOf({}, scene, mark);
    const [first = whole, last = whole] = splitAt(8, whole, 81);
    const middle = splitAt(16, whole, 81)[0] ?? whole;
    return [middle, first, last].map((part) => toGateway(scene, part));
  });
}

/** Splits an IP packet without options, after so many bytes of its payload. */
function splitAt(bytes: number, packet: Buffer, id: number): Buffer[] {
  const [payload, protocol] = [packet.subarray(20), packet[9] ?? 0];
  const ends = { from: [...packet.subarray(12, 16)].join("."), to: [...packet.subarray(16, 20)].join(".") };
  const part = { ...ends, protocol, id };
  return [
    frames.ipv4({ ...part, payload: payload.subarray(0, bytes), moreFragments: true }),
    frames.ipv4({ ...part, payload: payload.subarray(bytes), offset: bytes / 8 }),
  ];
}

function toGateway(scene: Scene, packet: Buffer): Buffer {
  return frames.ethernet(scene.mac, INSIDE.gatewayMac, frames.ETHER.ipv4, packet);
}

/** Messages by which a guest could steer others. */
const STEERING: readonly Probe[] = [
  dropped(
    "dhcp-server",
    "No answer of a DHCP server leaves the VM.",
    frame({
      to: "255.255.255.255",
      targetMac: EVERY_MAC,
      ports: { from: 67, to: 68 },
      as: "as a DHCP server",
    }),
    frame({ ports: { from: 67, to: 68 } }),
  ),
  dropped(
    "icmp-redirect",
    "An ICMP redirect about no connection is dropped.",
    icmp("redirect to 192.0.0.2", 5, PEERS.public),
    icmp("echo", 8, PEERS.public),
  ),
  dropped(
    "icmp-redirect-gateway",
    "An ICMP redirect to the VM's network namespace is dropped.",
    icmp("redirect to 192.0.0.2", 5, INSIDE.gateway),
    icmp("echo", 8, PEERS.public),
  ),
  dropped(
    "icmp-unreachable",
    "An ICMP error about no connection is dropped.",
    icmp("destination unreachable", 3, PEERS.public),
    icmp("echo", 8, PEERS.public),
  ),
  dropped(
    "igmp",
    "The VM joins no group of another network.",
    frame({ protocol: "igmp", to: "224.0.0.22", targetMac: "01:00:5e:00:00:16", as: "as IGMP" }),
  ),
];

function icmp(said: string, type: number, to: string): Packet {
  return raw(`frame: ICMP ${said}, ${to}`, (scene, mark) => {
    const about =
      type === 8 ? Buffer.from(mark.text) : packetOf({ from: PEERS.public, to: INSIDE.guest }, scene, mark);
    const payload = frames.icmp(type, type === 3 ? 1 : 0, frames.address4(INSIDE.guest), about);
    return toGateway(scene, frames.ipv4({ to, protocol: frames.PROTOCOL.icmp, payload }));
  });
}

/** Returns an ARP request. Its answer is recognized by the address that it is sent to. */
function whoHas(
  target: string,
  { tell, sourceMac }: { readonly tell: string; readonly sourceMac?: string },
  isTwin = false,
): Packet {
  return raw(
    `frame: ARP who has ${target}, tell ${tell}${sourceMac === undefined ? "" : `, source MAC ${sourceMac}`}`,
    ({ mac }, { text }) => {
      const senderMac = sourceMac ?? mac;
      const targetMac = "00:00:00:00:00:00";
      const asked = frames.arp({ operation: "request", senderMac, sender: tell, targetMac, target });
      return frames.ethernet(
        senderMac,
        EVERY_MAC,
        frames.ETHER.arp,
        Buffer.concat([asked, Buffer.from(text)]),
      );
    },
    {
      begins: ({ mac }) =>
        Buffer.concat([
          frames.uint16(frames.ETHER.arp),
          frames.arp({
            operation: "reply",
            senderMac: INSIDE.gatewayMac,
            sender: target,
            targetMac: sourceMac ?? mac,
            target: tell,
          }),
        ]),
      await: isTwin,
    },
  );
}

const { guest, gateway } = INSIDE;

function arp(id: string, says: string, packet: Packet): Probe {
  const twin = { packet: whoHas(gateway, { tell: guest }, true), verdict: "answered" } as const;
  return { id, says, policy: "open", packet, verdict: "dropped", twin };
}

function tells(id: string, says: string, sender: string): Probe {
  return arp(id, says, whoHas(gateway, { tell: sender }));
}

const ARP: readonly Probe[] = [
  tells("arp-neighbour", "ARP in the name of another address has no answer.", "192.0.0.3"),
  tells("arp-gateway", "ARP in the name of the gateway has no answer.", gateway),
  tells("arp-public", "ARP in the name of a public address has no answer.", PEERS.public),
  arp(
    "arp-mac",
    "ARP from another MAC address has no answer.",
    whoHas(gateway, { tell: guest, sourceMac: FOREIGN_MAC }),
  ),
  arp("arp-for-others", "The gateway answers for no other address.", whoHas(PEERS.public, { tell: guest })),
];

/** Protocols of a link other than IP and ARP, by the number of their frames. */
const LINK_PROTOCOLS = [
  ["lldp", "LLDP is dropped.", 0x88cc, "01:80:c2:00:00:0e"],
  ["eapol", "802.1X is dropped.", 0x888e, "01:80:c2:00:00:03"],
  ["pppoe", "PPPoE is dropped.", 0x8863, EVERY_MAC],
  ["mpls", "MPLS is dropped.", 0x8847, INSIDE.gatewayMac],
  ["spanning-tree", "What bridges tell one another is dropped.", 0x0026, "01:80:c2:00:00:00"],
] as const;

const LINK: readonly Probe[] = LINK_PROTOCOLS.map(([id, says, type, to]) =>
  dropped(
    id,
    says,
    raw(`frame: type 0x${type.toString(16).padStart(4, "0")}, target MAC ${to}`, ({ mac }, { text }) =>
      frames.ethernet(mac, to, type, Buffer.from(text)),
    ),
  ),
);

export const FRAME_PROBES: readonly Probe[] = [
  ...SPOOFED,
  ...MALFORMED,
  ...FRAGMENTS,
  ...STEERING,
  ...ARP,
  ...LINK,
];
