/** The ports of a guest that wait for peers, and from where they are reached. Pure. */
import { isIPv6 } from "node:net";
import { INSIDE } from "#model/inside-addresses.ts";
import type { PublishedPort, PUBLISHED_PROTOCOLS } from "#model/published-port.ts";

/** A socket of the guest: a TCP socket that listens, or a UDP socket without a peer. The guest may lie. */
export type GuestPort = {
  readonly protocol: (typeof PUBLISHED_PROTOCOLS)[number];
  /** The address of the guest that it is bound to; 0.0.0.0 and :: are each of them. */
  readonly address: string;
  /** 1 to 65535. */
  readonly port: number;
  /** A process that has the socket; undefined if none is known. */
  readonly pid?: number | undefined;
  /** The name of that process. */
  readonly program?: string | undefined;
  /** The user of that process: a name, or the number of one without a name. */
  readonly user?: string | undefined;
};

export type Reach = {
  /** The addresses and ports of the host that lead to this port. */
  readonly published: readonly Pick<PublishedPort, "address" | "hostPort">[];
  /** True if `hearth port-forward` leads to it. */
  readonly forward: boolean;
};

const EVERY_IPV4 = "0.0.0.0";
const EVERY_ADDRESS = "::";
const FORWARD_ADDRESS = "127.0.0.1";

/**
 * Tells from where a port is reached. Published ports lead to the address of the guest's card, and forwarded ones to
 * its loopback, over TCP. Both are IPv4.
 */
export function reachOf(one: GuestPort, all: readonly GuestPort[], publish: readonly PublishedPort[]): Reach {
  const accepts = (address: string): boolean => one.address === address || acceptsEveryIpv4(one, all);
  const published = publish.filter(
    ({ guestPort, protocol }) => guestPort === one.port && protocol === one.protocol,
  );
  return {
    published: accepts(INSIDE.guest) ? published.map(({ address, hostPort }) => ({ address, hostPort })) : [],
    forward: one.protocol === "tcp" && accepts(FORWARD_ADDRESS),
  };
}

/**
 * A socket that is bound to :: takes IPv4, too, as Linux has it by default. If another socket has 0.0.0.0 at the same
 * port, that cannot be.
 */
function acceptsEveryIpv4(one: GuestPort, all: readonly GuestPort[]): boolean {
  if (one.address === EVERY_IPV4) return true;
  const isSame = ({ protocol, port }: GuestPort): boolean => protocol === one.protocol && port === one.port;
  return one.address === EVERY_ADDRESS && !all.some((other) => isSame(other) && other.address === EVERY_IPV4);
}

/** Orders ports by number, protocol and address, and leaves out all but one of those that look the same. */
export function orderPorts(ports: readonly GuestPort[]): readonly GuestPort[] {
  const unique = new Map(ports.map((one) => [JSON.stringify(keyOf(one)), one]));
  return [...unique.values()].toSorted(
    (a, b) =>
      a.port - b.port ||
      compare(a.protocol, b.protocol) ||
      Number(isIPv6(a.address)) - Number(isIPv6(b.address)) ||
      compare(a.address, b.address) ||
      (a.pid ?? 0) - (b.pid ?? 0),
  );
}

function keyOf({ protocol, address, port, pid, program, user }: GuestPort): unknown {
  return [protocol, address, port, pid, program, user];
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
