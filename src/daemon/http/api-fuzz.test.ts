/** Sends hostile input to hearthd's socket: none of it ends hearthd, or keeps other clients from being served. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Fuzz } from "#testing/fuzz.ts";
import { serveDaemon } from "#testing/served-daemon.ts";
import type { ServedDaemon } from "#testing/served-daemon.ts";

const REQUESTS = 10_000;
const FRAMES = 30_000;
/** Sends one input: the connection is closed at the first input that is no HTTP, and ends with the command. */
const PER_CONNECTION = { requests: 5, frames: 40 };
const AT_ONCE = 10;
/** The time for an answer that never ends, such as the event stream. */
const PATIENCE_MS = 30;

const METHODS = ["GET", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const RARE_METHODS = ["TRACE", "CONNECT", "PROPFIND", "FUZZ"];
const NAMES = ["web", "nobody", "..", "%00", "%zz", "%2e%2e%2f", "x".repeat(300), "vm-0123456789ab"];
const ACTIONS = [
  "",
  "/start",
  "/stop",
  "/exec",
  "/files?path=/x",
  "/logs?lines=1",
  "/stats",
  "/pause",
  "/resume",
];
const PATHS = [
  "/",
  "//",
  "*",
  "/v1/run",
  "/v1/vms",
  "/v1/events",
  "/v1/images/%00",
  "/v1/daemon",
  "/openapi.json",
];
const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aGVhcnRoIGlzIGxvY2FsIQ==";
const HEADERS = [
  UPGRADE,
  "Expect: 100-continue",
  "Connection: close",
  "hearth-operation: op-0123456789ab",
  "hearth-operation: none",
  "content-type: application/json",
  "Transfer-Encoding: chunked",
  "Host: [::",
];
const KEYS = ["image", "name", "argv", "vm", "exec", "env", "cpus", "tty", "type", "rows", "cols", "signal"];

function request(fuzz: Fuzz): Buffer {
  const vm = `/v1/vms/${fuzz.pick(NAMES)}${fuzz.pick(ACTIONS)}`;
  const path = fuzz.oneIn(2) ? vm : fuzz.pick(PATHS);
  const body = fuzz.oneIn(2) ? "" : JSON.stringify(fuzz.value(KEYS));
  const headers = Array.from({ length: fuzz.int(4) }, () => `${fuzz.pick(HEADERS)}\r\n`).join("");
  const length =
    body === "" ? "" : `content-length: ${Buffer.byteLength(body) + (fuzz.oneIn(20) ? 1 : 0)}\r\n`;
  const head = `${fuzz.pick(fuzz.oneIn(20) ? RARE_METHODS : METHODS)} ${path} HTTP/1.1\r\nHost: hearthd\r\n${headers}${length}\r\n`;
  const bytes = Buffer.from(head + body);
  return fuzz.oneIn(8) ? fuzz.mutated(bytes) : bytes;
}

function frame(fuzz: Fuzz): Buffer {
  const text = fuzz.oneIn(2) ? Buffer.from(JSON.stringify(fuzz.value(KEYS))) : fuzz.bytes(40);
  const payload = fuzz.oneIn(20) ? Buffer.alloc(70_000) : text;
  const head = Buffer.alloc(payload.length < 126 ? 2 : 10);
  head[0] =
    (fuzz.oneIn(10) ? 0 : 0x80) | (fuzz.oneIn(10) ? fuzz.int(128) : fuzz.pick([1, 2, 1, 2, 9, 10, 0]));
  head[1] = (fuzz.oneIn(50) ? 0 : 0x80) | (payload.length < 126 ? payload.length : 127);
  if (payload.length >= 126) head.writeBigUInt64BE(BigInt(payload.length), 2);
  return Buffer.concat([head, Buffer.alloc(4), payload]);
}

/** The handshake of a command that runs until its client leaves, and its first message. */
function command(fuzz: Fuzz): Buffer {
  const path = fuzz.oneIn(4) ? "/v1/run" : "/v1/vms/web/exec";
  const exec = { argv: [fuzz.pick(["endless", "true"])], stdin: true };
  const first = Buffer.from(JSON.stringify(path === "/v1/run" ? { vm: { image: "" }, exec } : exec));
  return Buffer.concat([
    Buffer.from(`GET ${path} HTTP/1.1\r\nHost: hearthd\r\n${UPGRADE}\r\n\r\n`),
    Buffer.from([0x81, 0x80 | first.length, 0, 0, 0, 0]),
    first,
  ]);
}

/** Sends inputs over connections that are closed now and then. Answers are read and dropped. */
async function attack(
  { socketPath }: ServedDaemon,
  fuzz: Fuzz,
  inputs: number,
  perConnection: number,
  input: () => Buffer,
  first = (): Buffer => Buffer.alloc(0),
): Promise<void> {
  let left = inputs;
  const attacker = async (): Promise<void> => {
    while (left > 0) {
      left -= perConnection;
      const socket = connect(socketPath)
        .on("error", () => undefined)
        .resume(); // Closed at random.
      socket.write(Buffer.concat([first(), ...Array.from({ length: perConnection }, input)]));
      const patience = new AbortController();
      if (!fuzz.oneIn(4)) socket.end();
      await Promise.race([
        once(socket, "close").catch(() => undefined), // However it ends.
        sleep(fuzz.oneIn(4) ? 0 : PATIENCE_MS, undefined, { signal: patience.signal }),
      ]);
      patience.abort();
      socket.destroy();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, attacker));
}

async function serveWeb(t: TestContext): Promise<ServedDaemon> {
  const daemon = await serveDaemon(t);
  await daemon.run("web");
  return daemon;
}

/** Returns the bugs in hearthd's log: an unforeseen error has the code `internal.bug`. */
function bugsOf({ host }: ServedDaemon): unknown[] {
  return host.machine.events.filter(
    ({ name, fields }) => name === "daemon.bug" || (fields as { code?: string }).code === "internal.bug",
  );
}

test(`${REQUESTS} hostile requests leave hearthd as it was`, async (t) => {
  const fuzz = new Fuzz(t);
  const daemon = await serveWeb(t);
  await attack(daemon, fuzz, REQUESTS, PER_CONNECTION.requests, () => request(fuzz));
  t.diagnostic(`${daemon.requests} were HTTP`);
  // On a busy host more connections are closed before they are read: 393 of 10,000 at load 6.
  assert.ok(daemon.requests > REQUESTS / 100, "many get past the parser");
  await (await daemon.client()).vms.list();
  assert.deepEqual(bugsOf(daemon), []);
});

test(`${FRAMES} hostile frames to commands leave hearthd as it was`, async (t) => {
  const fuzz = new Fuzz(t);
  const daemon = await serveWeb(t);
  const first = (): Buffer => command(fuzz);
  await attack(daemon, fuzz, FRAMES, PER_CONNECTION.frames, () => frame(fuzz), first);
  assert.equal((await (await daemon.client()).vm("web").exec(["true"])).exitCode, 0);
  assert.deepEqual(bugsOf(daemon), []);
});
