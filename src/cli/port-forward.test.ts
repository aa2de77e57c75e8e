import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import type { TestContext } from "node:test";
import { CliRun, runCli } from "#testing/cli-run.ts";
import { ECHO_PORT } from "#testing/fake-guest.ts";
import { serveDaemon } from "#testing/served-daemon.ts";
import type { ServedDaemon } from "#testing/served-daemon.ts";

/** Starts a forward of any free port to the one that echoes. */
async function forwarding(t: TestContext, guestPort = ECHO_PORT) {
  const served: ServedDaemon = await serveDaemon(t);
  await served.run("web");
  const run = new CliRun(served, ["port-forward", "web", `0:${guestPort}`]);
  while (!run.stdout.includes("\n")) await once(run.stdoutStream, "data");
  const [, port] = /^127\.0\.0\.1:(\d+) -> \d+\n$/.exec(run.stdout) ?? [];
  const open = async (): Promise<Socket> => {
    const socket = connect(Number(port), "127.0.0.1").on("error", () => {}); // Some are reset on purpose.
    await once(socket, "connect");
    return socket;
  };
  return { served, run, open };
}

/** Resolves when the socket is closed, by a reset too. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

test("connections reach the port of the guest, several at once, until Ctrl-C", async (t) => {
  const { served, run, open } = await forwarding(t);
  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      const socket = await open();
      socket.end(Buffer.alloc(100_000, index));
      return buffer(socket);
    }),
  );
  for (const [index, answer] of answers.entries()) assert.ok(answer.equals(Buffer.alloc(100_000, index)));
  const last = await open();
  last.write("x");
  await once(last, "data");
  run.signal("SIGINT");
  assert.equal(await run.code, 0);
  await closed(last);
  const { id } = served.host.store.getVm("web");
  while (served.daemon.vms.uses.has(id)) await setImmediate();
});

test("a connection to a port where nothing listens is reset with a note, and the next one is served", async (t) => {
  const { run, open } = await forwarding(t, 81);
  for (const count of [1, 2]) {
    const socket = await open();
    await closed(socket);
    assert.equal(run.stderr.match(/Port 81: .*nothing answers/g)?.length, count);
  }
  run.signal("SIGTERM");
  assert.equal(await run.code, 0);
});

test("a port of this host that is taken, and what is no VM or no port, are errors at once", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  await using taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  const result = await runCli(served, ["port-forward", "web", `0:${ECHO_PORT}`, `${port}:80`]);
  assert.equal(result.code, 1);
  assert.match(result.stderr, /Cannot listen on 127\.0\.0\.1:\d+: a program has this port/);
  assert.match((await runCli(served, ["port-forward", "gone", "80"])).stderr, /There is no VM "gone"/);
  assert.equal((await runCli(served, ["port-forward", "web", "http"])).code, 2);
});
