/** Writes frames of Ethernet with IPv6, as a router or a hostile guest may send them. */

/** The parts of a frame. */
export type Frame = {
  /** MAC addresses. */
  readonly to: string;
  readonly from: string;
  readonly source: string;
  readonly target: string;
  /** 64 if undefined. */
  readonly hopLimit?: number;
  /** Headers before the payload, in their order. */
  readonly extensions?: readonly Extension[];
  readonly payload: Payload;
};
/** A header by its number, without its first byte, which tells the next header. */
export type Extension = { readonly header: number; readonly bytes: readonly number[] };
/** A message with a checksum of zero, which is filled in. */
export type Payload = { readonly protocol: number; readonly bytes: readonly number[] };

const IPV6 = 0x86dd;
const UDP = 17;
const ICMPV6 = 58;
const ROUTING = 43;
const NONE = 59;

/** A datagram to port 9, which discards. */
export const DATAGRAM: Payload = { protocol: UDP, bytes: [0x27, 0x10, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4] };

/** A router advertisement (RFC 4861): the sender is a default router for 1800 s. */
export const ROUTER_ADVERTISEMENT: Payload = {
  protocol: ICMPV6,
  bytes: [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
};

/** Returns a message of neighbour discovery about an address. */
export function discovery(type: number, about: string): Payload {
  return { protocol: ICMPV6, bytes: [type, 0, 0, 0, 0, 0, 0, 0, ...addressBytes(about)] };
}

/** Returns an extension header of 8 bytes without contents. */
export function extension(header: number): Extension {
  // A routing header of an experimental type, at its end; options: padding.
  return { header, bytes: header === ROUTING ? [0, 253, 0, 0, 0, 0, 0] : [0, 1, 4, 0, 0, 0, 0] };
}

/** Returns the bytes of a frame, with a correct checksum of its payload. */
export function ipv6Frame(frame: Frame): Buffer {
  const { to, from, source, target, hopLimit = 64, extensions = [], payload } = frame;
  const addresses = [...addressBytes(source), ...addressBytes(target)];
  const chain = [...extensions.map(({ header }) => header), payload.protocol];
  const headers = extensions.flatMap(({ bytes }, index) => [chain[index + 1] ?? NONE].concat(bytes));
  const body = [...headers, ...withChecksum(addresses, payload)];
  const header = [0x60, 0, 0, 0, ...twoBytes(body.length), chain[0] ?? NONE, hopLimit];
  const macs = [to, from].flatMap((mac) => mac.split(":").map((part) => parseInt(part, 16)));
  return Buffer.from([...macs, ...twoBytes(IPV6), ...header, ...addresses, ...body]);
}

/** Returns a program of Perl that sends a frame from the interface with the index that is its argument. Every Debian has Perl. */
export function sendProgram(frame: Buffer): string {
  return [
    "socket(S, 17, 3, 0) or die $!;",
    `$a = pack("S n l S C C a8", 17, ${IPV6}, $ARGV[0], 0, 0, 6, "");`,
    `defined(send(S, pack("H*", "${frame.toString("hex")}"), 0, $a)) or die $!;`,
  ].join(" ");
}

/** Returns the 16 bytes of an IPv6 address. */
function addressBytes(address: string): number[] {
  const [head = "", tail] = address.split("::");
  const groups = (text = ""): string[] => (text === "" ? [] : text.split(":"));
  const [first, last] = [groups(head), groups(tail)];
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => "0");
  return [...first, ...(tail === undefined ? [] : zeros), ...last].flatMap((group) =>
    twoBytes(parseInt(group, 16)),
  );
}

/** Fills in the checksum of UDP or ICMPv6 (RFC 8200, section 8.1). */
function withChecksum(addresses: readonly number[], { protocol, bytes }: Payload): number[] {
  const summed = [...addresses, 0, 0, ...twoBytes(bytes.length), 0, 0, 0, protocol, ...bytes];
  let sum = 0;
  for (let index = 0; index < summed.length; index += 2)
    sum += ((summed[index] ?? 0) << 8) | (summed[index + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  const checksum = twoBytes(~sum & 0xffff);
  const at = protocol === UDP ? 6 : 2;
  return bytes.map((byte, index) => checksum[index - at] ?? byte);
}

function twoBytes(value: number): [number, number] {
  return [value >> 8, value & 0xff];
}
