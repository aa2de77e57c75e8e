import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { SILENT } from "#base/log.ts";
import type { Log } from "#base/log.ts";
import { Attachment } from "#daemon/vm/attachment.ts";
import type { Guest } from "#daemon/host.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";

test("a guest that answers and hangs up again and again is reached every few seconds, and does not fill the log", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let connections = 0;
  const events: string[] = [];
  const log = { event: (name: string) => events.push(name), child: () => log } as unknown as Log;
  const guests = {
    waitFor: () => {
      connections += 1;
      const guest = { closed: Promise.resolve(new Error("It hung up.")), close() {} };
      return Promise.resolve(guest as unknown as Guest);
    },
  };
  const driver = { watch() {} } as unknown as VmDriver;
  const attachment = new Attachment(
    driver,
    {} as VmHandle,
    guests,
    { exited() {}, silent() {}, status() {} },
    log,
  );
  t.after(() => attachment.detach());
  /** Resolves when hearthd only waits: a turn of the event loop has all that follows from the last one. */
  const idle = async (): Promise<void> => {
    for (let before = -1; before !== connections;) {
      before = connections;
      for (let turn = 0; turn < 10; turn++) await nextTurn();
      if (connections > 1_000) assert.fail("it never waits");
    }
  };
  attachment.connectGuest();
  await idle();
  const atOnce = connections;
  assert.ok(atOnce > 1 && atOnce < 10, String(atOnce));
  t.mock.timers.tick(4_999);
  await idle();
  assert.equal(connections, atOnce);
  t.mock.timers.tick(1);
  await idle();
  assert.equal(connections, atOnce + 1);
  assert.deepEqual(events, ["agent.disconnected"], "once a minute, however many there are");
});

test("an agent that is tried again and again leaves nothing of the attempts behind", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let tries = 0;
  const guests = {
    waitFor: () => {
      tries += 1;
      return Promise.reject(new Error("It is gone."));
    },
  };
  const driver = { watch() {} } as unknown as VmDriver;
  const on = { exited() {}, silent() {}, status() {} };
  const attachment = new Attachment(driver, {} as VmHandle, guests, on, SILENT);
  t.after(() => attachment.detach());
  attachment.connectGuest();
  while (tries < 7) {
    await nextTurn();
    t.mock.timers.tick(5_000);
  }
  await nextTurn();
  assert.ok(getEventListeners(attachment.signal, "abort").length <= 1);
});

test("of two connections to an agent that were asked for at once, the one that is not kept is closed", async (t) => {
  const waits: ((guest: Guest) => void)[] = [];
  const guests = { waitFor: () => new Promise<Guest>((resolve) => waits.push(resolve)) };
  const driver = { watch() {} } as unknown as VmDriver;
  const on = { exited() {}, silent() {}, status() {} };
  const attachment = new Attachment(driver, {} as VmHandle, guests, on, SILENT);
  t.after(() => attachment.detach());
  attachment.connectGuest();
  attachment.renewGuest();
  await nextTurn();
  const closed: number[] = [];
  for (const [index, connect] of waits.entries())
    connect({ closed: new Promise(() => {}), close: () => closed.push(index) } as unknown as Guest);
  await nextTurn();
  assert.deepEqual(closed, [0]);
  assert.ok(attachment.connectedGuest);
});
