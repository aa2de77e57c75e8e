import { isIP } from "node:net";
import { HearthError } from "#base/error.ts";
import type { ListPortsResponse, OpenPort } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { guestText } from "#guest/guest-text.ts";
import { orderPorts } from "#model/guest-port.ts";
import type { GuestPort } from "#model/guest-port.ts";
import { PUBLISHED_PROTOCOLS } from "#model/published-port.ts";

/** The list that an agent answers with. */
export type GuestPorts = {
  readonly ports: readonly GuestPort[];
  /** True if the guest has more sockets or open files than its agent looks at. */
  readonly truncated: boolean;
};

/** The most that an agent sends. */
const PORTS_MAX = 1_000;
/** A comm of Linux has 15 bytes; a name of a user has 32. */
const NAME_MAX_CHARS = 64;
/** Linux' PID_MAX_LIMIT. */
const PID_MAX = 4_194_304;

/**
 * Converts the agent's answer, bounded and safe to print.
 * @throws HearthError `agent.failed` for what is no port
 */
export function readGuestPorts(answer: ListPortsResponse): GuestPorts {
  return {
    ports: orderPorts(answer.ports.slice(0, PORTS_MAX).map(readPort)),
    truncated: answer.truncated || answer.ports.length > PORTS_MAX,
  };
}

function readPort({ protocol: named, address, port, pid, program, user }: OpenPort): GuestPort {
  const protocol = PUBLISHED_PROTOCOLS.find((each) => each === named);
  // A zone may be any text, and /proc/net has none.
  const isAddress = isIP(address) !== 0 && !address.includes("%");
  if (protocol === undefined || !isAddress || port < 1 || port > 0xffff || pid > PID_MAX)
    throw new HearthError("agent.failed", "The guest agent failed: it lists a port that cannot be.");
  if (pid === 0) return { protocol, address, port };
  return {
    protocol,
    address,
    port,
    pid,
    program: guestText(program, NAME_MAX_CHARS),
    user: guestText(user, NAME_MAX_CHARS),
  };
}
