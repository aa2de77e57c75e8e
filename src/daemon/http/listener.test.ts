import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, statSync } from "node:fs";
import { createServer, request } from "node:http";
import type { ClientRequest, IncomingMessage, RequestOptions, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { unixListener } from "#daemon/http/listener.ts";
import type { Listener } from "#daemon/http/listener.ts";
import { isListening } from "#host/unix-socket.ts";
import { HEARTHD } from "#model/principal.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import { ServedDaemon } from "#testing/served-daemon.ts";

/** Another kind of address, whose clients are another principal. */
class LoopbackListener implements Listener {
  readonly address = "127.0.0.1";
  readonly makeServer = createServer;
  port = 0;

  async listen(server: Server): Promise<void> {
    server.listen(0, this.address);
    await once(server, "listening");
    this.port = (server.address() as AddressInfo).port;
  }

  principalOf(): typeof HEARTHD {
    return HEARTHD;
  }
}

function machineOf(t: TestContext): FakeMachine {
  const machine = new FakeMachine();
  t.after(() => machine[Symbol.dispose]());
  return machine;
}

function send(options: RequestOptions, body?: object): ClientRequest {
  const headers = { "content-type": "application/json" };
  const asked = request({ ...options, method: body === undefined ? "GET" : "POST", headers });
  asked.end(body && JSON.stringify(body));
  return asked;
}

async function ask(options: RequestOptions, body?: object): Promise<unknown> {
  const [answer] = (await once(send(options, body), "response")) as [IncomingMessage];
  return json(answer);
}

test("every listener serves the same API, and says who asks", async (t) => {
  const loopback = new LoopbackListener();
  const served = await new ServedDaemon(machineOf(t), {}, [loopback]).listen();
  t.after(() => served.end());
  const ways = { unix: { socketPath: served.socketPath }, loopback: { port: loopback.port } };
  for (const [name, way] of Object.entries(ways))
    await ask({ ...way, path: "/v1/vms" }, { name, image: "debian" });
  const asked = (await ask({ ...ways.unix, path: "/v1/operations" })) as { principal: string }[];
  assert.deepEqual(
    asked.map(({ principal }) => principal),
    ["hearthd", "owner"],
  );
  const seen = (await ask({ ...ways.loopback, path: "/v1/vms" })) as { name: string }[];
  assert.deepEqual(seen.map(({ name }) => name).toSorted(), ["loopback", "unix"]);
});

test("a command that runs over another listener is that principal's", async (t) => {
  const loopback = new LoopbackListener();
  const served = await new ServedDaemon(machineOf(t), {}, [loopback]).listen();
  t.after(() => served.end());
  const upgrade = {
    connection: "upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
  };
  const asked = request({ port: loopback.port, path: "/v1/run", headers: upgrade });
  asked.end();
  const [, socket] = (await once(asked, "upgrade")) as [IncomingMessage, NodeJS.ReadWriteStream];
  const [{ principal } = { principal: "" }] = served.daemon.operations.list();
  assert.deepEqual(principal, HEARTHD);
  socket.end();
});

test("hearthd ends with connections open at every listener", async (t) => {
  const loopback = new LoopbackListener();
  const served = await new ServedDaemon(machineOf(t), {}, [loopback]).listen();
  const ways = [{ socketPath: served.socketPath }, { port: loopback.port }];
  const opened = ways.map(async (way) => (await once(send({ ...way, path: "/v1/events" }), "response"))[0]);
  const streams = (await Promise.all(opened)) as IncomingMessage[];
  const closed = streams.map((events) => once(events.resume(), "close"));
  assert.equal(await served.end(), true);
  await Promise.all(closed);
});

test("where one address cannot be listened at, hearthd listens at none and says which", async (t) => {
  const machine = machineOf(t);
  const taken = unixListener(join(machine.dir, "taken"));
  mkdirSync(taken.address);
  const broken = { ...taken, listen: async (server: Server) => void (await listenAt(server, taken.address)) };
  const served = new ServedDaemon(machine, {}, [broken]);
  await assert.rejects(served.listen(), {
    code: "daemon.start_failed",
    message: `hearthd cannot listen at ${taken.address}.`,
  });
  assert.equal(await isListening(served.socketPath), false);
});

async function listenAt(server: Server, path: string): Promise<void> {
  server.listen(path);
  await once(server, "listening");
}

test("only the owner may open the Unix socket", async (t) => {
  const served = await new ServedDaemon(machineOf(t)).listen();
  t.after(() => served.end());
  assert.equal(await isListening(served.socketPath), true);
  assert.equal(statSync(served.socketPath).mode & 0o777, 0o600);
});
