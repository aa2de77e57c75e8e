/**
 * A host of the Internet that a test makes, in its own network namespace: answers HTTP with the addresses of both ends,
 * and DNS queries with one address of each kind that it has itself; echoes on the ports 7 and 443, and sends lines without being asked on port 19 (RFC 862, 864). Has the addresses of its arguments, the first of which is the resolver's. Prints a
 * line when it listens.
 */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:http";
import type { Server } from "node:http";
import { createServer as createTcpServer } from "node:net";
import type { Socket } from "node:net";
import { setInterval } from "node:timers";

/**
 * The address that names have, and that of names that begin with "private". Names that begin with an address, such as
 * 198-51-100-20.example, have that one.
 */
const ANSWER = [198, 51, 100, 7];
const PRIVATE = [10, 1, 2, 3];
/** IPv6 addresses that names have: 2001:db8:100::7 and fd00:1::3. */
const ANSWER6 = [0x20, 1, 0xd, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const PRIVATE6 = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
const TYPES = { a: 1, aaaa: 28 } as const;
const LINE_MS = 100;

const [resolverAddress = "127.0.0.1", ...others] = process.argv.slice(2);
const addresses = [resolverAddress, ...others];
const hasIpv6 = addresses.some((address) => address.includes(":"));
const everywhere = hasIpv6 ? ["0.0.0.0", "::"] : ["0.0.0.0"];

const serveWeb = (): Server =>
  createServer(({ socket }, response) => {
    response.end(`from ${socket.remoteAddress} to ${socket.localAddress}\n`);
  });
const echoBack = (socket: Socket): void => {
  socket.on("error", () => socket.destroy()); // A client that was cut.
  socket.pipe(socket);
};
const lines = createTcpServer((socket: Socket) => {
  const sending = setInterval(() => socket.write("a line\n"), LINE_MS);
  socket.on("error", () => socket.destroy());
  socket.on("close", () => clearInterval(sending));
  socket.resume();
});
const resolver = createSocket("udp4", (query, { port, address }) => {
  const question = query.subarray(12, query.indexOf(0, 12) + 5);
  const type = question.readUInt16BE(question.length - 4);
  const isAnswered = type === TYPES.a || (type === TYPES.aaaa && hasIpv6);
  const count = isAnswered ? 1 : 0;
  const header = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
  const name = question.toString("latin1", 1);
  const said = /^\d+-\d+-\d+-\d+(?![\w-])/.exec(name)?.[0].split("-").map(Number);
  const isPrivate = name.startsWith("private");
  const found = type === TYPES.a ? (said ?? (isPrivate ? PRIVATE : ANSWER)) : isPrivate ? PRIVATE6 : ANSWER6;
  const record = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 60, 0, found.length, ...found]);
  resolver.send(Buffer.concat([header, question, ...(isAnswered ? [record] : [])]), port, address);
});
execFileSync("ip", ["link", "set", "lo", "up"]);
for (const address of addresses)
  execFileSync("ip", ["addr", "replace", `${address}/${address.includes(":") ? 128 : 32}`, "dev", "lo"]);
lines.listen(19, "0.0.0.0");
await Promise.all(
  everywhere.map(async (host) => {
    for (const port of [7, 443]) createTcpServer(echoBack).listen({ port, host, ipv6Only: true });
    await once(serveWeb().listen({ port: 80, host, ipv6Only: true }), "listening");
  }),
);
resolver.bind(53, resolverAddress, () => process.stdout.write("listening\n"));
