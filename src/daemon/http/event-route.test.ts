import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { ApiEvent } from "#api/events.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const CREATED: ApiEvent = { type: "vm.created", atMs: 0, id: "vm-0123456789ab", name: "web", labels: {} };

/** A hearthd whose event bus counts its listeners. */
async function setUp(t: TestContext) {
  const served = await serveDaemon(t);
  const { bus } = served.host;
  const subscribe = bus.subscribe.bind(bus);
  let listeners = 0;
  bus.subscribe = (listener) => {
    const subscription = subscribe(listener);
    listeners += 1;
    return {
      [Symbol.dispose]() {
        listeners -= 1;
        subscription[Symbol.dispose]();
      },
    };
  };
  const untilListeners = async (count: number): Promise<void> => {
    while (listeners !== count) await turn();
  };
  return { served, bus, untilListeners };
}

test("events arrive as they happen, and a client that leaves is unsubscribed", async (t) => {
  const { served, bus, untilListeners } = await setUp(t);
  const events = (await served.client()).events();
  const first = events.next();
  await untilListeners(1);
  bus.publish(CREATED);
  assert.deepEqual((await first).value, CREATED);
  await events.return();
  await untilListeners(0);
});

test("a client that reads nothing is disconnected and unsubscribed", async (t) => {
  const { served, bus, untilListeners } = await setUp(t);
  const socket = await served.connect();
  socket.write("GET /v1/events HTTP/1.1\r\nHost: hearthd\r\n\r\n");
  await once(socket, "readable");
  await untilListeners(1);
  for (let times = 0; times < 2_000; times++) bus.publish({ ...CREATED, name: "x".repeat(2_000) });
  await untilListeners(0);
});

test("HEAD starts no stream that would never end", async (t) => {
  const { served, untilListeners } = await setUp(t);
  const socket = await served.connect();
  socket.write("HEAD /v1/events HTTP/1.1\r\nHost: hearthd\r\nconnection: close\r\n\r\n");
  socket.resume();
  await once(socket, "close");
  await untilListeners(0);
});
