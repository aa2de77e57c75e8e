import { readFileSync } from "node:fs";
import { readNetDev } from "#host/procfs.ts";

/** Counters of a network interface, from its own point of view. */
export type LinkCounters = {
  readonly receivedBytes: number;
  readonly receivedPackets: number;
  readonly sentBytes: number;
  readonly sentPackets: number;
};

const FILE = "/proc/net/dev";

/** Lists the network interfaces in the namespace of this process. */
export function listLinks(text = readFileSync(FILE, "utf8")): string[] {
  // The first two lines are a head.
  return text
    .split("\n")
    .slice(2)
    .flatMap((line) => (line.includes(":") ? [line.slice(0, line.indexOf(":")).trim()] : []));
}

/** Reads the counters of an interface in the network namespace of this process; undefined if there is none. */
export function readLinkCounters(name: string, text = readFileSync(FILE, "utf8")): LinkCounters | undefined {
  const line = text.split("\n").find((one) => one.trimStart().startsWith(`${name}:`));
  if (line === undefined) return undefined;
  // Eight columns for each direction, see proc_pid_net(5).
  const columns = line
    .slice(line.indexOf(":") + 1)
    .trim()
    .split(/\s+/)
    .map(Number);
  const [receivedBytes = 0, receivedPackets = 0] = columns;
  const [sentBytes = 0, sentPackets = 0] = columns.slice(8);
  return { receivedBytes, receivedPackets, sentBytes, sentPackets };
}

/** Reads the counters of an interface in the network namespace of a process, if this user may. */
export function readCardCounters(pid: number, name: string): LinkCounters | undefined {
  const text = readNetDev(pid);
  return text === undefined ? undefined : readLinkCounters(name, text);
}
