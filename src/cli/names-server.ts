/** Answers DNS queries of programs of this host for names of VMs: RFC 1035, over UDP. */
import { createSocket } from "node:dgram";
import type { RemoteInfo, Socket } from "node:dgram";
import { once } from "node:events";
import { decode, encode } from "dns-packet";
import type { Packet } from "dns-packet";

const ZONE = "hearth";
/** A VM has another address after each start. */
const TTL_S = 5;
const CODES = { NOERROR: 0, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, SERVFAIL: 2 } as const;
const FLAGS = { authoritative: 1 << 10, recursionDesired: 1 << 8 } as const;

/** The addresses of a VM; none if it has no network that the host reaches, and undefined if there is no such VM. */
export type FindAddresses = (vm: string) => Promise<readonly string[] | undefined>;

/**
 * Serves queries until the signal aborts. `onFailure` is called with each error of `find`.
 * @throws the error of bind(2)
 */
export async function serveNames(
  { address, port }: { readonly address: string; readonly port: number },
  find: FindAddresses,
  onFailure: (error: unknown) => void,
  signal: AbortSignal,
): Promise<number> {
  const socket = createSocket("udp4");
  socket.on("message", (message, from) => {
    reply(socket, message, from, find).catch(onFailure);
  });
  socket.bind({ address, port, exclusive: true });
  await once(socket, "listening");
  socket.on("error", onFailure);
  signal.addEventListener("abort", () => socket.close(), { once: true });
  return socket.address().port;
}

async function reply(socket: Socket, message: Buffer, from: RemoteInfo, find: FindAddresses): Promise<void> {
  const query = parse(message);
  // What is no query gets no answer: its sender may be another server.
  if (query === undefined || query.type !== "query") return;
  let answer: Uint8Array;
  try {
    answer = encode(await answerTo(query, find));
  } catch (error) {
    send(socket, encode(answerWith(query, "SERVFAIL")), from);
    throw error;
  }
  send(socket, answer, from);
}

function send(socket: Socket, answer: Uint8Array, { port, address }: RemoteInfo): void {
  socket.send(answer, port, address, () => {}); // The client may have gone, or this server be ending.
}

function parse(message: Buffer): Packet | undefined {
  try {
    return decode(message);
  } catch {
    return undefined;
  }
}

async function answerTo(query: Packet, find: FindAddresses): Promise<Packet> {
  const [question, ...more] = query.questions ?? [];
  if (question === undefined || more.length > 0 || (query as { opcode?: string }).opcode !== "QUERY")
    return answerWith(query, "NOTIMP");
  const name = question.name.toLowerCase();
  if (name !== ZONE && !name.endsWith(`.${ZONE}`)) return answerWith(query, "REFUSED");
  const addresses = await find(name.slice(0, -ZONE.length - 1));
  if (addresses === undefined) return answerWith(query, "NXDOMAIN");
  const records =
    question.type === "A"
      ? addresses.map((data) => ({ type: "A", name: question.name, ttl: TTL_S, data }) as const)
      : [];
  return { ...answerWith(query, "NOERROR"), answers: records };
}

function answerWith({ id, flags = 0, questions = [] }: Packet, code: keyof typeof CODES): Packet {
  const kept = flags & FLAGS.recursionDesired;
  return {
    ...(id !== undefined && { id }),
    type: "response",
    flags: FLAGS.authoritative | kept | CODES[code],
    questions,
  };
}
