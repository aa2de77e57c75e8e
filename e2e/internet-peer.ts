/**
 * A host of the Internet that a test makes, in its own network namespace: answers HTTP with the addresses of both ends,
 * and DNS queries with one address; echoes on the ports 7 and 443, and sends lines without being asked on port 19 (RFC 862, 864). Has the addresses of its arguments, the first of which is the resolver's. Prints a
 * line when it listens.
 */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:http";
import { createServer as createTcpServer } from "node:net";
import type { Socket } from "node:net";
import { setInterval } from "node:timers";

/**
 * The address that names have, and that of names that begin with "private". Names that begin with an address, such as
 * 198-51-100-20.example, have that one.
 */
const ANSWER = [198, 51, 100, 7];
const PRIVATE = [10, 1, 2, 3];
const LINE_MS = 100;

const web = createServer(({ socket }, response) => {
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
  const isA = question.readUInt16BE(question.length - 4) === 1;
  const header = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0]);
  const name = question.toString("latin1", 1);
  const said = /^\d+-\d+-\d+-\d+(?![\w-])/.exec(name)?.[0].split("-").map(Number);
  const found = said ?? (name.startsWith("private") ? PRIVATE : ANSWER);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...found]);
  resolver.send(Buffer.concat([header, question, ...(isA ? [record] : [])]), port, address);
});
const [resolverAddress = "127.0.0.1", ...others] = process.argv.slice(2);
execFileSync("ip", ["link", "set", "lo", "up"]);
for (const address of [resolverAddress, ...others])
  execFileSync("ip", ["addr", "replace", `${address}/32`, "dev", "lo"]);
for (const port of [7, 443]) createTcpServer(echoBack).listen(port, "0.0.0.0");
lines.listen(19, "0.0.0.0");
web.listen(80, "0.0.0.0", () =>
  resolver.bind(53, resolverAddress, () => process.stdout.write("listening\n")),
);
