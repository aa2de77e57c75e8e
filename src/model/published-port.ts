/** The ports of a VM that are published: reached on addresses of the host. */
import { isIPv4 } from "node:net";
import { HearthError } from "#base/error.ts";
import { LIMITS } from "#model/limits.ts";

export const PUBLISHED_PROTOCOLS = ["tcp", "udp"] as const;

export type PublishedPort = {
  /** An IPv4 address of the host; 0.0.0.0 is each of them. */
  readonly address: string;
  /** 1 to 65535. */
  readonly hostPort: number;
  /** 1 to 65535. */
  readonly guestPort: number;
  readonly protocol: (typeof PUBLISHED_PROTOCOLS)[number];
};

/** Where ports are published unless an address is given: for programs of this host only. */
export const PUBLISH_ADDRESS = "127.0.0.1";
const EVERY_ADDRESS = "0.0.0.0";

/** Parses `[ADDRESS:]PORT:GUEST-PORT[/udp]`. @throws HearthError `input.invalid` */
export function parsePublished(text: string): PublishedPort {
  const parts = /^(?:([\d.]+):)?(\d{1,5}):(\d{1,5})(?:\/(tcp|udp))?$/.exec(text);
  if (parts === null)
    throw new HearthError("input.invalid", `publish: ${JSON.stringify(text)} is no published port.`, {
      hint: "Write 8080:80 for this host only, 0.0.0.0:8080:80 for others too, or 5353:53/udp.",
    });
  const [, address = PUBLISH_ADDRESS, hostPort, guestPort, protocol = "tcp"] = parts;
  const port = {
    address,
    hostPort: Number(hostPort),
    guestPort: Number(guestPort),
    protocol: protocol as PublishedPort["protocol"],
  };
  checkPublished([port]);
  return port;
}

/** Formats a published port as it is parsed. */
export function formatPublished({ address, hostPort, guestPort, protocol }: PublishedPort): string {
  return `${address}:${hostPort}:${guestPort}${protocol === "udp" ? "/udp" : ""}`;
}

/** Checks the published ports of a VM, and returns them. @throws HearthError `input.invalid` */
export function checkPublished(ports: readonly PublishedPort[]): readonly PublishedPort[] {
  if (ports.length > LIMITS.publishedPortsMax)
    throw new HearthError("input.invalid", `publish: a VM has at most ${LIMITS.publishedPortsMax} ports.`);
  for (const [index, port] of ports.entries()) {
    if (!isIPv4(port.address))
      throw new HearthError("input.invalid", `publish: ${port.address} is not an IPv4 address.`);
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

/** Tells whether two published ports take the same port of the host. */
export function overlaps(one: PublishedPort, other: PublishedPort): boolean {
  if (one.protocol !== other.protocol || one.hostPort !== other.hostPort) return false;
  return one.address === other.address || [one.address, other.address].includes(EVERY_ADDRESS);
}
