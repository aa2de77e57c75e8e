import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Log } from "#base/log.ts";
import { Attachment } from "#daemon/attachment.ts";
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
  /** Until hearthd does nothing but wait: a turn of the event loop has all that follows from the last one. */
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
  assert.ok(events.length < 10, events.join());
});
