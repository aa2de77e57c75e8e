/**
 * Probes with IPv6. Policies know IPv4 only, so each of these frames is dropped; the twin has the same payload in IPv4.
 */
import { INSIDE } from "#model/inside-addresses.ts";
import * as frames from "./frames.ts";
import { frame, raw } from "./packets.ts";
import type { Mark, Packet } from "./packets.ts";
import type { Probe } from "./probe.ts";

const GUEST = "fd00::2";
const LINK_LOCAL = "fe80::2";
const PUBLIC = "2001:db8::7";
const EVERY_NODE = { to: "ff02::1", mac: "33:33:00:00:00:01" } as const;
const UDP = frames.PROTOCOL.udp;

type Sent = { readonly text: string; readonly from?: string; readonly to: string; readonly mac?: string };

/** Returns a frame with these headers before its payload: the number of the first, and their bytes. */
function ipv6(
  { text, from = GUEST, to, mac: targetMac = INSIDE.gatewayMac }: Sent,
  contents: Contents,
): Packet {
  return raw(`frame: ${text}`, ({ mac }, mark) => {
    const { next, payload } = contents({ from, to }, mark);
    return frames.ethernet(
      mac,
      targetMac,
      frames.ETHER.ipv6,
      frames.ipv6({ from, to, next, payload, hops: 255 }),
    );
  });
}

type Ends = { readonly from: string; readonly to: string };
type Contents = (ends: Ends, mark: Mark) => { readonly next: number; readonly payload: Buffer };

/** UDP behind these extension headers, each of which is 8 bytes and begins with the number of the next. */
function udpBehind(headers: readonly (readonly [number: number, rest: readonly number[]])[] = []): Contents {
  return ({ from, to }, { text }) => {
    const pseudo = (length: number): Buffer =>
      frames.pseudoHeader(frames.address6(from), frames.address6(to), UDP, length);
    const numbers = [...headers.map(([number]) => number), UDP];
    const extensions = headers.map(([, rest], index) => Buffer.from([numbers[index + 1] ?? UDP, ...rest]));
    const segment = frames.udp({ from: 4000, to: 7 }, Buffer.from(text), pseudo);
    return { next: numbers[0] ?? UDP, payload: Buffer.concat([...extensions, segment]) };
  };
}

function icmpv6(type: number, rest: Buffer): Contents {
  return ({ from, to }, { text }) => {
    const bytes = Buffer.concat([rest, Buffer.from(text)]);
    const number = frames.PROTOCOL.icmpv6;
    const ends = [frames.address6(from), frames.address6(to)] as const;
    const pseudo = frames.pseudoHeader(...ends, number, 8 + bytes.length);
    return { next: number, payload: frames.icmp(type, 0, Buffer.alloc(4), bytes, pseudo) };
  };
}

function dropped(id: string, says: string, packet: Packet): Probe {
  const twin = { packet: frame(), verdict: "arrives" } as const;
  return { id: `ipv6-${id}`, says, policy: "open", packet, verdict: "dropped", twin };
}

/** Returns a probe with UDP to an address. */
function sentTo(id: string, says: string, address: string): Probe {
  return dropped(id, says, ipv6({ text: `UDP [${address}]:7`, to: address }, udpBehind()));
}

function behind(id: string, says: string, number: number, rest: readonly number[]): Probe {
  const text = `UDP [${PUBLIC}]:7 behind an extension header ${number}`;
  return dropped(id, says, ipv6({ text, to: PUBLIC }, udpBehind([[number, rest]])));
}

const ADDRESSES: readonly Probe[] = [
  sentTo("public", "A public IPv6 address is closed.", PUBLIC),
  sentTo("metadata", "A cloud's metadata server is closed over IPv6.", "fd00:ec2::254"),
  sentTo("private", "A private network is closed over IPv6.", "fd00::1"),
  sentTo("loopback", "The loopback is closed over IPv6.", "::1"),
  sentTo("mapped", "An IPv4 address in the form of IPv6 is closed.", "::ffff:198.51.100.7"),
  sentTo("mapped-private", "A private IPv4 address in the form of IPv6 is closed.", "::ffff:10.1.2.3"),
  sentTo("nat64", "An IPv4 address by NAT64 is closed.", "64:ff9b::198.51.100.7"),
  sentTo("6to4", "An IPv4 address by 6to4 is closed.", "2002:c633:6407::1"),
  sentTo("link-local", "An IPv6 address of the link is closed.", "fe80::ff:fe00:1"),
  dropped(
    "spoofed",
    "A packet of another IPv6 address is dropped.",
    ipv6({ text: `UDP [${PUBLIC}]:7, source IP fe80::99`, from: "fe80::99", to: PUBLIC }, udpBehind()),
  ),
];

const OPTIONS = [0, 1, 4, 0, 0, 0, 0] as const;

const HEADERS: readonly Probe[] = [
  behind("hop-by-hop", "Options for each hop are no way around.", 0, OPTIONS),
  behind("destination-options", "Options for the destination are no way around.", 60, OPTIONS),
  behind("routing", "A chosen route is no way around.", 43, [0, 0, 0, 0, 0, 0, 0]),
  behind("fragment", "A fragment is no way around.", 44, [0, 0, 0, 0, 0, 0, 1]),
];

const SOLICITED = { to: "ff02::1:ff00:1", mac: "33:33:ff:00:00:01" } as const;
const TARGET = frames.address6("fe80::1");

const STEERING: readonly Probe[] = [
  dropped(
    "router-advertisement",
    "The VM cannot make itself a router.",
    ipv6({ text: "router advertisement", from: LINK_LOCAL, ...EVERY_NODE }, icmpv6(134, Buffer.alloc(8))),
  ),
  dropped(
    "neighbour-solicitation",
    "The VM learns no neighbours.",
    ipv6({ text: "neighbour solicitation", from: LINK_LOCAL, ...SOLICITED }, icmpv6(135, TARGET)),
  ),
  dropped(
    "neighbour-advertisement",
    "The VM is no neighbour in the name of others.",
    ipv6({ text: "neighbour advertisement", from: "fe80::1", ...EVERY_NODE }, icmpv6(136, TARGET)),
  ),
  dropped(
    "redirect",
    "The VM redirects nobody.",
    ipv6({ text: "redirect", from: "fe80::1", ...EVERY_NODE }, icmpv6(137, Buffer.concat([TARGET, TARGET]))),
  ),
  dropped(
    "listener-report",
    "The VM joins no groups of IPv6.",
    ipv6(
      { text: "listener report", from: LINK_LOCAL, to: "ff02::16", mac: "33:33:00:00:00:16" },
      icmpv6(143, Buffer.alloc(0)),
    ),
  ),
  dropped(
    "mdns",
    "Multicast DNS over IPv6 is heard by nobody.",
    ipv6(
      { text: "UDP [ff02::fb]:7", from: LINK_LOCAL, to: "ff02::fb", mac: "33:33:00:00:00:fb" },
      udpBehind(),
    ),
  ),
  dropped(
    "in-ipv4",
    "Packets of IPv6 in IPv4 are those of their outer address: none to the host.",
    frame({ protocol: "ipv6", to: "127.0.0.1", as: "(IPv6 in IPv4)" }),
  ),
];

export const IPV6_PROBES: readonly Probe[] = [...ADDRESSES, ...HEADERS, ...STEERING];
