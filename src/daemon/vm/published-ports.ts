/** Checks that the ports of the host that a VM publishes are free. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import { HearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import type { VmId } from "#model/ids.ts";
import { familyOf } from "#model/ip-address.ts";
import { formatPublished, overlaps } from "#model/published-port.ts";
import type { PublishedPort } from "#model/published-port.ts";

/**
 * Checks that no other VM, running or not, publishes one of these ports. Called in the tick that stores them.
 * @throws HearthError `port.taken` with the other VM's name
 */
export function assertPortsFree(
  { store }: Pick<Host, "store">,
  id: VmId,
  ports: readonly PublishedPort[] = [],
): void {
  if (ports.length === 0) return;
  for (const other of store.listVms()) {
    if (other.id === id) continue;
    for (const theirs of other.spec.publish ?? []) {
      const mine = ports.find((port) => overlaps(port, theirs));
      if (mine !== undefined)
        throw new HearthError(
          "port.taken",
          `publish: ${other.name} publishes ${formatPublished(theirs)} already.`,
          { hint: `Choose another port of the host than ${mine.hostPort}, or remove ${other.name}.` },
        );
    }
  }
}

/**
 * Checks that no program of the host has one of these ports now.
 * @throws HearthError `port.taken`; `input.invalid` for what is no address of this host
 */
export async function checkPortsUnused(
  { limitations }: Pick<Host, "limitations">,
  ports: readonly PublishedPort[] = [],
): Promise<void> {
  for (const port of ports) {
    try {
      await (port.protocol === "tcp" ? bindTcp(port) : bindUdp(port));
    } catch (error) {
      // A hearthd that is not root may not ask for ports below 1024. A helper publishes them all the same.
      const isHelpers = (error as NodeJS.ErrnoException).code === "EACCES" && limitations.uid === undefined;
      if (!isHelpers) throw explain(port, error);
    }
  }
}

function explain({ address, hostPort, protocol }: PublishedPort, error: unknown): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case "EADDRINUSE":
      return new HearthError(
        "port.taken",
        `publish: a program of the host has port ${hostPort} of ${address}.`,
        { hint: `Choose another port, or find the program: ss -lpn ${protocol === "tcp" ? "-t" : "-u"}` },
      );
    case "EACCES":
      return new HearthError("feature.missing", `publish: hearthd's user may not have port ${hostPort}.`, {
        hint: "Choose a port from 1024 on, or lower the first of them: sysctl net.ipv4.ip_unprivileged_port_start",
      });
    case "EADDRNOTAVAIL":
      return new HearthError("input.invalid", `publish: ${address} is not an address of this host.`, {
        hint: "`ip addr` lists them. 0.0.0.0 is each of IPv4, and [::] each of IPv6.",
      });
    default:
      return error;
  }
}

async function bindTcp({ address, hostPort }: PublishedPort): Promise<void> {
  await using server = createServer();
  server.listen({ host: address, port: hostPort, exclusive: true, ipv6Only: true });
  await once(server, "listening");
}

async function bindUdp({ address, hostPort }: PublishedPort): Promise<void> {
  const type = familyOf(address) === "ipv6" ? "udp6" : "udp4";
  await using socket = createSocket({ type, ipv6Only: type === "udp6" });
  socket.bind({ address, port: hostPort, exclusive: true });
  await once(socket, "listening");
}
