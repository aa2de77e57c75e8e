/** A port of this host whose connections reach a port of the guest. */
import { isIPv4 } from "node:net";
import { HearthError } from "#base/error.ts";
import { PUBLISH_ADDRESS } from "#model/published-port.ts";

export type PortForward = {
  /** An IPv4 address of this host. */
  readonly address: string;
  /** 0 to 65535; 0 is any free port. */
  readonly port: number;
  /** 1 to 65535. */
  readonly guestPort: number;
};

const PORT_MAX = 0xffff;

/** Parses `[ADDRESS:][PORT:]GUEST-PORT`. @throws HearthError `input.invalid` */
export function parseForward(text: string): PortForward {
  const [, address = PUBLISH_ADDRESS, port, guest = ""] =
    /^(?:([\d.]+):(?=\d+:))?(?:(\d{1,5}):)?(\d{1,5})$/.exec(text) ?? [];
  const guestPort = Number(guest);
  const hostPort = Number(port ?? guest);
  if (isIPv4(address) && guestPort >= 1 && guestPort <= PORT_MAX && hostPort <= PORT_MAX)
    return { address, port: hostPort, guestPort };
  throw new HearthError("input.invalid", `${JSON.stringify(text)} is no port to forward.`, {
    hint: "Write 8080:80, 127.0.0.1:8080:80, or 80 for the same port on both sides. Ports are 1 to 65535.",
  });
}
