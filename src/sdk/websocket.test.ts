import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";
import { main } from "#cli/main.ts";
import type { Hearth } from "#sdk/hearth.ts";
import { Transport } from "#sdk/transport.ts";
import { openWebSocket } from "#sdk/websocket.ts";
import { testIo } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const HANDLERS = { onText() {}, onBinary() {}, onClose() {} };

/** Fakes a stopped hearthd: the kernel accepts connections for it, and nothing answers. */
async function silentDaemon(t: TestContext, answer = "") {
  const home = mkdtempSync(join(tmpdir(), "silent-"));
  const socketPath = apiSocketPath(hearthDirs({ HEARTH_HOME: home }, "/"));
  mkdirSync(dirname(socketPath), { recursive: true });
  const asked = Promise.withResolvers<Socket>();
  const server = createServer((socket) => {
    socket.on("error", () => undefined); // The client disconnects.
    // `Hearth.connect` only connects, without sending a request.
    socket.once("data", () => (socket.write(answer), asked.resolve(socket)));
  });
  server.listen(socketPath);
  await once(server, "listening");
  t.after(() => {
    server.close();
    rmSync(home, { recursive: true });
  });
  return { home, socketPath, asked: asked.promise };
}

for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
  ["SIGQUIT", 131],
] as const) {
  test(
    `${name} ends a command that waits for a hearthd that does not answer`,
    { timeout: 20_000 },
    async (t) => {
      const { home, asked } = await silentDaemon(t);
      const cli = testIo(["exec", "web", "--", "true"], { env: { HEARTH_HOME: home } });
      const exited = main(cli.io);
      const connection = await asked;
      const closed = once(connection, "close");
      cli.signal(name);
      assert.equal(await exited, code);
      await closed;
    },
  );
}

test("a hearthd that does not answer in time is unreachable", { timeout: 20_000 }, async (t) => {
  const { socketPath } = await silentDaemon(t);
  const socket = await new Transport(socketPath).connect();
  await assert.rejects(openWebSocket(socket, "/v1/run", HANDLERS, { deadlineMs: 20 }), {
    code: "daemon.unreachable",
    hint: /hearth daemon status/,
  });
});

test("the handshake says which version answers", async (t) => {
  const answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nHearth-Version: 1.2.3\r\n\r\n";
  const { socketPath } = await silentDaemon(t, answer);
  const versions: string[] = [];
  const socket = await new Transport(socketPath).connect();
  const onVersion = (version: string): void => void versions.push(version);
  (await openWebSocket(socket, "/v1/run", HANDLERS, { onVersion })).destroy();
  assert.deepEqual(versions, ["1.2.3"]);
});

test("a client that only runs commands knows the version of its hearthd", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  for (const open of [
    async (hearth: Hearth) => hearth.vm("web").exec(["true"]),
    async (hearth: Hearth) => {
      const run = await hearth.run({ vm: { image: "debian", autoRemove: true }, exec: { argv: ["true"] } });
      return run.exited;
    },
  ]) {
    const hearth = await served.client();
    assert.equal((await open(hearth)).exitCode, 0);
    assert.equal(hearth.daemonVersion, served.daemon.version);
  }
});
