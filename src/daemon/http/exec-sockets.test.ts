import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { test } from "node:test";
import type { ErrorBody } from "#base/error.ts";
import { serveDaemon } from "#testing/served-daemon.ts";
import type { ServedDaemon } from "#testing/served-daemon.ts";

function upgrade(path: string, more = ""): string {
  return (
    `GET ${path} HTTP/1.1\r\nHost: hearthd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aGVhcnRoIGlzIGxvY2FsIQ==\r\n${more}\r\n`
  );
}

async function answerTo(served: ServedDaemon, request: string): Promise<string> {
  const socket = await served.connect();
  socket.write(request);
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  await once(socket, "close");
  return text;
}

function errorIn(answer: string): ErrorBody {
  return (JSON.parse(answer.slice(answer.indexOf("{"))) as { error: ErrorBody }).error;
}

const REFUSED = [
  { title: "a path that is no URL", request: upgrade("//"), status: 404, code: "api.not_found" },
  { title: "a path that the API has not", request: upgrade("/v2/run"), status: 404, code: "api.not_found" },
  {
    title: "a name that is no text",
    request: upgrade("/v1/vms/%zz/exec"),
    status: 404,
    code: "vm.not_found",
  },
  {
    title: "a key that is none",
    request: upgrade("/v1/run").replace("aGVhcnRoIGlzIGxvY2FsIQ==", "short"),
    status: 400,
    code: "input.invalid",
  },
  {
    title: "an operation id that is none",
    request: upgrade("/v1/run", "hearth-operation: op-'; DROP TABLE vms\r\n"),
    status: 400,
    code: "input.invalid",
  },
];
for (const { title, request, status, code } of REFUSED) {
  test(`an upgrade with ${title} is refused with an error of the API, and hearthd keeps running`, async (t) => {
    const served = await serveDaemon(t, { version: "1.2.3" });
    const answer = await answerTo(served, request);
    assert.match(answer, new RegExp(`^HTTP/1.1 ${status} .*\\r\\nhearth-version: 1.2.3\\r\\n`, "s"));
    assert.equal(errorIn(answer).code, code);
    assert.deepEqual(await (await served.client()).vms.list(), []);
  });
}

test("clients that hang up on the answer to a bad upgrade do not end hearthd", async (t) => {
  const served = await serveDaemon(t);
  for (let tries = 0; tries < 200; tries++) {
    const socket: Socket = connect(served.socketPath).on("error", () => undefined); // It is cut off on purpose.
    await once(socket, "connect");
    socket.write(upgrade("/nowhere"));
    socket.destroy();
  }
  assert.deepEqual(await (await served.client()).vms.list(), []);
});

test("an accept that fails does not end hearthd, and costs a few lines of its log", async (t) => {
  const served = await serveDaemon(t);
  const failed = Object.assign(new Error("accept EMFILE"), { code: "EMFILE" });
  for (let times = 0; times < 1_000; times++) served.failAccept(failed);
  assert.deepEqual(await (await served.client()).vms.list(), []);
  const lines = served.host.machine.events.filter(({ name }) => name === "daemon.bug");
  assert.ok(lines.length > 0 && lines.length < 10, `${lines.length} lines`);
});

test("an exec's operation is in its handshake, its error and the log, with the path", async (t) => {
  const served = await serveDaemon(t, { version: "1.2.3" });
  const { vms } = served.daemon;
  await vms.create({ image: "debian", name: "web" }, false, vms.background());
  const socket = await served.connect();
  socket.write(upgrade("/v1/vms/web/exec", "hearth-operation: op-0123456789ab\r\n"));
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  await once(socket, "data");
  assert.match(text, /^HTTP\/1.1 101 .*\r\nhearth-version: 1.2.3\r\nhearth-operation: op-0123456789ab\r\n/s);
  const body = Buffer.from('{"argv":["true"]}');
  socket.write(Buffer.concat([Buffer.from([0x81, 0x80 | body.length, 0, 0, 0, 0]), body]));
  await once(socket, "close");
  assert.match(text, /"code":"vm.wrong_phase".*"operation":"op-0123456789ab"/);
  const logged = served.host.machine.events.find(({ name }) => name === "api.failed")?.fields;
  assert.deepEqual(
    { ...(logged as object), error: undefined },
    {
      operation: "op-0123456789ab",
      principal: "owner",
      route: "WEBSOCKET /v1/vms/web/exec",
      code: "vm.wrong_phase",
      error: undefined,
    },
  );
});

test("a client that goes away from its command is not logged as a failure", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const vm = await (await served.client()).vms.get("web");
  const command = await vm.spawn(["endless"]);
  command.close();
  await served.daemon.ending.settled();
  assert.deepEqual(
    served.host.machine.events.filter(({ name }) => name === "api.failed"),
    [],
  );
});

test("an exec in a VM that does not exist is refused before the upgrade", async (t) => {
  const served = await serveDaemon(t);
  const answer = await answerTo(served, upgrade("/v1/vms/nobody/exec"));
  assert.match(answer, /^HTTP\/1.1 404 /);
  assert.equal(errorIn(answer).code, "vm.not_found");
});

test("a request without a handshake is told that the path is a WebSocket", async (t) => {
  const served = await serveDaemon(t);
  const answer = await answerTo(served, "GET /v1/run HTTP/1.1\r\nHost: hearthd\r\nConnection: close\r\n\r\n");
  assert.match(answer, /^HTTP\/1.1 426 .*\r\nupgrade: websocket\r\n/s);
  assert.equal(errorIn(answer).code, "api.websocket_only");
});

test("an upgrade of a path that takes no WebSocket does nothing of what the path does", async (t) => {
  const served = await serveDaemon(t);
  const request = upgrade("/v1/daemon/stop").replace("GET", "POST");
  const answer = await answerTo(served, request);
  assert.equal(errorIn(answer).code, "api.wrong_method");
  assert.equal(served.daemon.ending.error, undefined);
});

test("a client may send its first message together with the handshake", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const body = Buffer.from('{"argv":["true"]}');
  const frame = Buffer.concat([Buffer.from([0x81, 0x80 | body.length, 0, 0, 0, 0]), body]);
  const socket = await served.connect();
  socket.write(Buffer.concat([Buffer.from(upgrade("/v1/vms/web/exec")), frame]));
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
  await once(socket, "close");
  assert.match(text, /^HTTP\/1.1 101 .*"type":"exit","code":0/s);
});

test("a command whose client leaves during the handshake is not started", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  for (let times = 0; times < 20; times++) {
    const socket = await served.connect();
    socket.write(upgrade("/v1/vms/web/exec"));
    socket.destroy();
  }
  await (await served.client()).vm("web").exec(["true"]);
  await served.daemon.ending.settled();
  const operations = await (await served.client()).operations.list();
  assert.deepEqual(
    operations.filter(({ endedAtMs }) => endedAtMs === undefined),
    [],
  );
});
