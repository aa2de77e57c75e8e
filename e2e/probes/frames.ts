/** Writes the bytes of frames as a guest could send them, also those that no kernel would. Pure. */
import { INSIDE } from "#model/inside-addresses.ts";

export const ETHER = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd, vlan: 0x8100, provider: 0x88a8 } as const;
export const PROTOCOL = {
  icmp: 1,
  igmp: 2,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  gre: 47,
  icmpv6: 58,
} as const;

export type Ipv4 = {
  readonly from?: string | undefined;
  readonly to: string;
  readonly protocol: number;
  readonly payload: Buffer;
  readonly ttl?: number | undefined;
  /** In whole words of 4 bytes. */
  readonly options?: readonly number[] | undefined;
  /** The offset of a fragment, in units of 8 bytes. */
  readonly offset?: number | undefined;
  readonly moreFragments?: boolean | undefined;
  /** Fragments of one packet have the same. */
  readonly id?: number | undefined;
  readonly wrongChecksum?: boolean | undefined;
};

export type Ports = { readonly from: number; readonly to: number };

/** Returns a frame with a payload of this type. */
export function ethernet(source: string, destination: string, type: number, payload: Buffer): Buffer {
  return Buffer.concat([mac(destination), mac(source), uint16(type), payload]);
}

/** Returns the 6 bytes of a MAC address. */
export function mac(text: string): Buffer {
  return Buffer.from(text.replaceAll(":", ""), "hex");
}

/** Returns an IPv4 packet, with the right checksum unless told otherwise. */
export function ipv4({
  from = INSIDE.guest,
  to,
  protocol,
  payload,
  ttl = 64,
  id = 1,
  ...more
}: Ipv4): Buffer {
  const { options = [], offset = 0, moreFragments = false, wrongChecksum = false } = more;
  const words = 5 + options.length / 4;
  const header = Buffer.concat([
    Buffer.from([0x40 | words, 0]),
    uint16(words * 4 + payload.length),
    uint16(id),
    uint16((moreFragments ? 0x2000 : 0) | offset),
    Buffer.from([ttl, protocol, 0, 0]),
    address4(from),
    address4(to),
    Buffer.from(options),
  ]);
  header.writeUInt16BE(checksum(header) ^ (wrongChecksum ? 0xffff : 0), 10);
  return Buffer.concat([header, payload]);
}

/** Returns the 4 bytes of an IPv4 address. */
export function address4(text: string): Buffer {
  return Buffer.from(text.split(".").map(Number));
}

/** Returns the 16 bytes of an IPv6 address, of which the last two groups may be an IPv4 address. */
export function address6(text: string): Buffer {
  const dotted = /[\d.]+\.\d+$/.exec(text)?.[0];
  const groups =
    dotted === undefined
      ? text
      : text.replace(
          dotted,
          address4(dotted).toString("hex", 0, 2) + ":" + address4(dotted).toString("hex", 2),
        );
  const [head = "", tail] = groups.split("::");
  const parse = (part: string): Buffer[] =>
    part === "" ? [] : part.split(":").map((group) => uint16(Number.parseInt(group, 16)));
  const [first, last] = [parse(head), parse(tail ?? "")];
  return Buffer.concat([...first, Buffer.alloc(16 - 2 * (first.length + last.length)), ...last]);
}

export type Ipv6 = {
  readonly from: string;
  readonly to: string;
  /** The type of the first header of the payload. */
  readonly next: number;
  readonly payload: Buffer;
  readonly hops?: number | undefined;
};

/** Returns an IPv6 packet. */
export function ipv6({ from, to, next, payload, hops = 64 }: Ipv6): Buffer {
  const start = [Buffer.from([0x60, 0, 0, 0]), uint16(payload.length), Buffer.from([next, hops])];
  return Buffer.concat([...start, address6(from), address6(to), payload]);
}

/** Returns the part of a checksum that is about the addresses, of either version of IP. */
export function pseudoHeader(from: Buffer, to: Buffer, protocol: number, length: number): Buffer {
  return Buffer.concat([from, to, uint16(0), uint16(length), uint16(0), uint16(protocol)]);
}

/** Returns a UDP datagram. @param pseudo see `pseudoHeader`, by the length of the datagram */
export function udp(
  { from, to }: Ports,
  text: Buffer,
  pseudo: (length: number) => Buffer,
  wrong = false,
): Buffer {
  const length = 8 + text.length;
  const segment = Buffer.concat([uint16(from), uint16(to), uint16(length), uint16(0), text]);
  const sum = checksum(Buffer.concat([pseudo(length), segment]));
  segment.writeUInt16BE(wrong ? sum ^ 0x5555 : sum || 0xffff, 6);
  return segment;
}

const FLAGS: Readonly<Record<string, number>> = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32 };

/** @param flags such as "SYN ACK" */
export function tcp(
  { from, to }: Ports,
  flags: string,
  text: Buffer,
  pseudo: (length: number) => Buffer,
  wrong = false,
): Buffer {
  const bits = flags.split(" ").reduce((sum, flag) => sum | (FLAGS[flag] ?? 0), 0);
  const fields = [uint16(from), uint16(to), uint32(1000), uint32(bits & 16 ? 2000 : 0)];
  const segment = Buffer.concat([...fields, Buffer.from([0x50, bits]), uint16(65_535), uint32(0), text]);
  const sum = checksum(Buffer.concat([pseudo(segment.length), segment]));
  segment.writeUInt16BE(wrong ? sum ^ 0x5555 : sum, 16);
  return segment;
}

/** Returns an ICMP message: type, code, the four bytes after the checksum, and the rest. */
export function icmp(
  type: number,
  code: number,
  rest: Buffer,
  text: Buffer,
  pseudo: Buffer = Buffer.alloc(0),
): Buffer {
  const message = Buffer.concat([Buffer.from([type, code, 0, 0]), rest, text]);
  message.writeUInt16BE(checksum(Buffer.concat([pseudo, message])), 2);
  return message;
}

export type Arp = {
  readonly operation: "request" | "reply";
  readonly senderMac: string;
  readonly sender: string;
  readonly targetMac: string;
  readonly target: string;
};

/** Returns an ARP packet for Ethernet and IPv4 (RFC 826). */
export function arp({ operation, senderMac, sender, targetMac, target }: Arp): Buffer {
  const start = Buffer.from([0, 1, 8, 0, 6, 4, 0, operation === "request" ? 1 : 2]);
  return Buffer.concat([start, mac(senderMac), address4(sender), mac(targetMac), address4(target)]);
}

/** Returns 2 bytes, the higher one first. */
export function uint16(value: number): Buffer {
  return Buffer.from([(value >> 8) & 0xff, value & 0xff]);
}

function uint32(value: number): Buffer {
  return Buffer.concat([uint16(value >>> 16), uint16(value & 0xffff)]);
}

/** Returns the Internet checksum (RFC 1071). */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
