/** The ports of a VM that are published: reached on addresses of the host. */
import { HearthError } from "#base/error.ts";
import { canonicalIpv6, familyOf, isAddress, isIn } from "#model/ip-address.ts";
import { LIMITS } from "#model/limits.ts";

export const PUBLISHED_PROTOCOLS = ["tcp", "udp"] as const;

export type PublishedPort = {
  /** An address of the host, IPv6 in canonical form; 0.0.0.0 and :: are each of their family. */
  readonly address: string;
  /** 1 to 65535. */
  readonly hostPort: number;
  /** 1 to 65535. */
  readonly guestPort: number;
  readonly protocol: (typeof PUBLISHED_PROTOCOLS)[number];
};

/** Where ports are published unless an address is given: for programs of this host only. */
export const PUBLISH_ADDRESS = "127.0.0.1";
/** Each address of the host, of one family. */
export const EVERY_ADDRESS = { ipv4: "0.0.0.0", ipv6: "::" } as const;

/** Link-local addresses, which are of one link, and IPv4-mapped ones, which are of none. */
const UNPUBLISHABLE = ["fe80::/10", "::ffff:0:0/96"] as const;

/** Parses `[ADDRESS:]PORT:GUEST-PORT[/udp]`, with an IPv6 address in brackets. @throws HearthError `input.invalid` */
export function parsePublished(text: string): PublishedPort {
  const parts =
    /^(?:(?:([\d.]+)|\[([\dA-Fa-f.]*:[\dA-Fa-f:.]*)\]):)?(\d{1,5}):(\d{1,5})(?:\/(tcp|udp))?$/.exec(text);
  if (parts === null)
    throw new HearthError("input.invalid", `publish: ${JSON.stringify(text)} is no published port.`, {
      hint: "Write 8080:80 for this host only, 0.0.0.0:8080:80 or [::]:8080:80 for others too, or 5353:53/udp.",
    });
  const [, address4, address6, hostPort, guestPort, protocol = "tcp"] = parts;
  const port = {
    address: canonicalIpv6(address6 ?? "") ?? address6 ?? address4 ?? PUBLISH_ADDRESS,
    hostPort: Number(hostPort),
    guestPort: Number(guestPort),
    protocol: protocol as PublishedPort["protocol"],
  };
  checkPublished([port]);
  return port;
}

/** Formats a published port as it is parsed. */
export function formatPublished({ address, hostPort, guestPort, protocol }: PublishedPort): string {
  const on = familyOf(address) === "ipv6" ? `[${address}]` : address;
  return `${on}:${hostPort}:${guestPort}${protocol === "udp" ? "/udp" : ""}`;
}

/** Checks the published ports of a VM, and returns them. @throws HearthError `input.invalid` */
export function checkPublished(ports: readonly PublishedPort[]): readonly PublishedPort[] {
  if (ports.length > LIMITS.publishedPortsMax)
    throw new HearthError("input.invalid", `publish: a VM has at most ${LIMITS.publishedPortsMax} ports.`);
  for (const [index, port] of ports.entries()) {
    checkAddress(port.address);
    for (const number of [port.hostPort, port.guestPort])
      if (!Number.isInteger(number) || number < 1 || number > 0xffff)
        throw new HearthError("input.invalid", `publish: ${number} is not a port.`, {
          hint: "Ports are 1 to 65535.",
        });
    const other = ports.slice(0, index).find((one) => overlaps(one, port));
    if (other !== undefined)
      throw new HearthError(
        "input.invalid",
        `publish: ${formatPublished(port)} and ${formatPublished(other)} are the same port of the host.`,
      );
  }
  return ports;
}

/** @throws HearthError `input.invalid` */
function checkAddress(address: string): void {
  if (!isAddress(address))
    throw new HearthError("input.invalid", `publish: ${JSON.stringify(address)} is not an address.`, {
      hint: "Write an IPv4 address, or an IPv6 address in its short form, such as 2001:db8::1.",
    });
  if (address === "::1")
    throw new HearthError("input.invalid", "publish: ports cannot be published on ::1.", {
      hint: "Linux carries no packets of ::1 over another link. Use 127.0.0.1, or `hearth port-forward`.",
    });
  const special = UNPUBLISHABLE.find((network) => isIn(network, address));
  if (special === undefined) return;
  throw new HearthError(
    "input.invalid",
    `publish: ${address} is of ${special}, where no port can be published.`,
    {
      hint: "Use an IPv6 address that is not link-local, or an IPv4 address.",
    },
  );
}

/** Tells whether two published ports take the same port of the host. */
export function overlaps(one: PublishedPort, other: PublishedPort): boolean {
  if (one.protocol !== other.protocol || one.hostPort !== other.hostPort) return false;
  const family = familyOf(one.address);
  if (familyOf(other.address) !== family) return false;
  return one.address === other.address || [one.address, other.address].includes(EVERY_ADDRESS[family]);
}
