/**
 * The packets of probes: connections as programs open them, and frames as only a guest's root can send them. Each has
 * its text in docs/network-probes.md, and the step of the prober in the guest that sends it.
 */
import { INSIDE } from "#model/inside-addresses.ts";
import * as frames from "./frames.ts";

/** The values that a VM and its neighbours have while they run. */
export type Scene = {
  /** The MAC address of the VM's card. */
  readonly mac: string;
  /** The VM's address on the host, and that of another VM. */
  readonly own: string;
  readonly other: string;
  /** A public address to which nothing was sent before: NAT tells apart by address what has no ports. */
  readonly unused: string;
};

/** A step of the prober: see Step in agent/internal/prober/probe.go. */
export type Step = {
  readonly id: string;
  readonly do: "tcp" | "udp" | "icmp" | "dns" | "tls" | "frame";
  readonly to?: string | undefined;
  readonly text?: string | undefined;
  readonly until?: string | undefined;
  readonly fromPort: number;
  readonly name?: string | undefined;
  readonly type?: string | undefined;
  readonly hidden?: string | undefined;
  readonly verify?: boolean | undefined;
  /** In Base64. */
  readonly frames?: readonly string[] | undefined;
  readonly answer?: string | undefined;
  readonly await?: boolean | undefined;
};

/** The part of a step that tells it apart on its way. */
export type Mark = { readonly id: string; readonly fromPort: number; readonly text: string };

export type Packet = {
  readonly text: string;
  readonly step: (scene: Scene, mark: Mark) => Omit<Step, "id" | "fromPort">;
};

/** An address that is known before, or is one of the scene's. */
export type Target = string | { readonly of: "own" | "other" | "unused" };

const SCENE_TEXTS = {
  own: "the VM's address on the host",
  other: "another VM",
  unused: "a public address",
} as const;

function find(to: Target, scene: Scene): string {
  return typeof to === "string" ? to : scene[to.of];
}

function nameOf(to: Target, port?: number): string {
  if (typeof to === "string") return port === undefined ? to : `${to}:${port}`;
  return port === undefined ? SCENE_TEXTS[to.of] : `${SCENE_TEXTS[to.of]}, port ${port}`;
}

/** Returns the step that takes a packet. It is recognized by its id in the payload, or by its port. */
export function stepOf({ step }: Packet, id: string, fromPort: number, scene: Scene): Step {
  return { id, fromPort, ...step(scene, { id, fromPort, text: `probe:${id};` }) };
}

/** Returns a connection that is answered if its first bytes are. */
export function tcp(to: Target, port: number): Packet {
  return {
    text: `TCP ${nameOf(to, port)}`,
    step: (scene, { text }) => ({ do: "tcp", to: `${find(to, scene)}:${port}`, text: `${text}\r\n\r\n` }),
  };
}

/** Returns a datagram. */
export function udp(to: Target, port: number): Packet {
  return {
    text: `UDP ${nameOf(to, port)}`,
    step: (scene, { text }) => ({ do: "udp", to: `${find(to, scene)}:${port}`, text }),
  };
}

/** Returns an echo request. */
export function ping(to: Target): Packet {
  return {
    text: `ICMP echo ${nameOf(to)}`,
    step: (scene, { text }) => ({ do: "icmp", to: find(to, scene), text }),
  };
}

export type QueryOptions = {
  readonly type?: "A" | "AAAA" | "HTTPS" | undefined;
  readonly over?: "UDP" | "TCP" | undefined;
  readonly server?: string | undefined;
};

/** Returns a query for a name, to the VM's own resolver unless told otherwise. */
export function query(name: string, options: QueryOptions = {}): Packet {
  const { type = "A", over = "UDP", server = INSIDE.gateway } = options;
  const words = [type, name, ...(over === "TCP" ? ["over TCP"] : [])];
  return {
    text: `DNS ${words.join(" ")}${server === INSIDE.gateway ? "" : `, of ${server}`}`,
    step: () => ({ do: "dns", to: `${server}:53`, name, type: over === "TCP" ? `${type}/tcp` : type }),
  };
}

export type HandshakeOptions = {
  /** The name that is sent; none if empty. */
  readonly name: string;
  /** Sent in place of the name, which is encrypted. */
  readonly hidden?: string | undefined;
  readonly verify?: boolean | undefined;
};

/** Returns a TLS handshake. */
export function handshake(to: string, port: number, { name, hidden, verify }: HandshakeOptions): Packet {
  const said = name === "" ? "without a name" : hidden ? `${hidden} outside of ECH` : `for ${name}`;
  return {
    text: `TLS ${to}:${port}, ${said}${verify === true ? ", certificate checked" : ""}`,
    step: () => ({ do: "tls", to: `${to}:${port}`, name, hidden, verify }),
  };
}

/** Returns an HTTP request for a host. */
export function request(to: string, host: string): Packet {
  const lines = ["GET / HTTP/1.1", `Host: ${host}`, "Connection: close"];
  return {
    text: `HTTP ${to}:80, ${host === "" ? "without a host" : `for ${host}`}`,
    step: () => ({ do: "tcp", to: `${to}:80`, text: `${lines.join("\r\n")}\r\n\r\n`, until: "\n" }),
  };
}

/** Returns frames of other kinds. @param answer the beginning of an answer, from the type of its frame on */
export function raw(
  text: string,
  write: (scene: Scene, mark: Mark) => Buffer | readonly Buffer[],
  answer?: { readonly begins: (scene: Scene) => Buffer; readonly await: boolean },
): Packet {
  return {
    text,
    step: (scene, mark) => {
      const written = write(scene, mark);
      const sent = Array.isArray(written) ? (written as readonly Buffer[]) : [written as Buffer];
      return {
        do: "frame",
        frames: sent.map((one) => one.toString("base64")),
        answer: answer?.begins(scene).toString("base64"),
        await: answer?.await,
      };
    },
  };
}

/** Everything about a frame that a probe may change. Unchanged, it is a UDP packet to a public address. */
export type Changes = {
  readonly sourceMac?: string | undefined;
  readonly targetMac?: string | undefined;
  /** The tags of VLANs, the outer one first. */
  readonly vlans?: readonly number[] | undefined;
  readonly from?: string | undefined;
  readonly to?: Target | undefined;
  readonly ports?: frames.Ports | undefined;
  readonly ttl?: number | undefined;
  readonly options?: { readonly text: string; readonly bytes: readonly number[] } | undefined;
  /** TCP with these flags in place of UDP. */
  readonly flags?: string | undefined;
  /** A protocol without ports in place of UDP, with the text as its payload. */
  readonly protocol?: keyof typeof frames.PROTOCOL | undefined;
  readonly wrong?: "IP checksum" | "UDP checksum" | "TCP checksum" | undefined;
  /** How often it is sent. */
  readonly times?: number | undefined;
  /** Said in the text, for a packet whose ports and addresses are those of a protocol. */
  readonly as?: string | undefined;
};

/** The public address and port of frames that say no other. */
const PUBLIC = "198.51.100.7";
const ECHO = { from: 4000, to: 7 } as const;

/** Returns a frame like any other of the guest, but for these changes. */
export function frame(changes: Changes = {}): Packet {
  return raw(textOf(changes), (scene, mark) => {
    const one = frameOf(changes, scene, mark);
    return Array.from({ length: changes.times ?? 1 }, () => one);
  });
}

function textOf({ to = PUBLIC, ports = ECHO, flags, protocol, as, ...more }: Changes): string {
  const words = [];
  if (protocol !== undefined) words.push(`IP protocol ${frames.PROTOCOL[protocol]} ${nameOf(to)}`);
  else words.push(`${flags === undefined ? "UDP" : `TCP ${flags}`} ${nameOf(to, ports.to)}`);
  if (as !== undefined) words.push(as);
  const { sourceMac, targetMac, vlans = [], from, ttl, options, wrong, times } = more;
  if (sourceMac !== undefined) words.push(`source MAC ${sourceMac}`);
  if (targetMac !== undefined) words.push(`target MAC ${targetMac}`);
  if (from !== undefined) words.push(`source IP ${from}`);
  if (vlans.length > 0) words.push(`VLAN ${vlans.join(" in ")}`);
  if (ttl !== undefined) words.push(`TTL ${ttl}`);
  if (options !== undefined) words.push(options.text);
  if (wrong !== undefined) words.push(`wrong ${wrong}`);
  if (times !== undefined) words.push(`${times} times`);
  return `frame: ${words.join(", ")}`;
}

function frameOf(changes: Changes, scene: Scene, mark: Mark): Buffer {
  const { sourceMac = scene.mac, targetMac = INSIDE.gatewayMac, vlans = [] } = changes;
  const packet = packetOf(changes, scene, mark);
  if (vlans.length === 0) return frames.ethernet(sourceMac, targetMac, frames.ETHER.ipv4, packet);
  const tags = vlans.map((id, index) => {
    const isLast = index === vlans.length - 1;
    return Buffer.concat([frames.uint16(id), frames.uint16(isLast ? frames.ETHER.ipv4 : frames.ETHER.vlan)]);
  });
  const outer = vlans.length > 1 ? frames.ETHER.provider : frames.ETHER.vlan;
  return frames.ethernet(sourceMac, targetMac, outer, Buffer.concat([...tags, packet]));
}

/** Returns the IP packet of a frame. */
export function packetOf(changes: Changes, scene: Scene, mark: Mark): Buffer {
  const { from = INSIDE.guest, to: target = PUBLIC, ttl, options, wrong } = changes;
  const to = find(target, scene);
  const { protocol, payload } = payloadOf(changes, { from, to }, mark);
  const wrongChecksum = wrong === "IP checksum";
  return frames.ipv4({ from, to, ttl, protocol, payload, options: options?.bytes, wrongChecksum });
}

function payloadOf(
  { ports = ECHO, flags, protocol, wrong }: Changes,
  { from, to }: { readonly from: string; readonly to: string },
  { text, fromPort }: Mark,
): { protocol: number; payload: Buffer } {
  const bytes = Buffer.from(text);
  const pseudo = (number: number) => (length: number) =>
    frames.pseudoHeader(frames.address4(from), frames.address4(to), number, length);
  if (protocol !== undefined) return { protocol: frames.PROTOCOL[protocol], payload: bytes };
  const number = flags === undefined ? frames.PROTOCOL.udp : frames.PROTOCOL.tcp;
  if (flags === undefined)
    return { protocol: number, payload: frames.udp(ports, bytes, pseudo(number), wrong === "UDP checksum") };
  const own = { from: fromPort, to: ports.to };
  return {
    protocol: number,
    payload: frames.tcp(own, flags, bytes, pseudo(number), wrong === "TCP checksum"),
  };
}
