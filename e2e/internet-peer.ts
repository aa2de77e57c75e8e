/**
 * A host of the Internet that a test makes, in its own network namespace: answers HTTP with the addresses of both ends,
 * and DNS queries with one address. Has the addresses of its arguments, the first of which is the resolver's. Prints a
 * line when it listens.
 */
import { execFileSync } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:http";

/** The address that every name has: 198.51.100.7. */
const ANSWER = [198, 51, 100, 7];

const web = createServer(({ socket }, response) => {
  response.end(`from ${socket.remoteAddress} to ${socket.localAddress}\n`);
});
const resolver = createSocket("udp4", (query, { port, address }) => {
  const question = query.subarray(12, query.indexOf(0, 12) + 5);
  const isA = question.readUInt16BE(question.length - 4) === 1;
  const header = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0]);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...ANSWER]);
  resolver.send(Buffer.concat([header, question, ...(isA ? [record] : [])]), port, address);
});
const [resolverAddress = "127.0.0.1", ...others] = process.argv.slice(2);
execFileSync("ip", ["link", "set", "lo", "up"]);
for (const address of [resolverAddress, ...others])
  execFileSync("ip", ["addr", "replace", `${address}/32`, "dev", "lo"]);
web.listen(80, "0.0.0.0", () =>
  resolver.bind(53, resolverAddress, () => process.stdout.write("listening\n")),
);
