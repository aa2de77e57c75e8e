/** hearthd and VMMs are killed while a VM is forked: it runs on, and its copies are all there, or none. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import { START_VM } from "#daemon/flows/start-flow.ts";
import { Bed } from "./bed.ts";
import { crashIn, endDaemon, someMomentsOf } from "./crash-flow.ts";
import {
  assertLives,
  assertNothingElse,
  makeWeb,
  startOverAfterFailures,
  testNothingIsLeft,
} from "./saved-crash.ts";

const bed = new Bed();
const COPIES = ["copy-1", "copy-2"];
const FORK = ["fork", "-n", "2", "--name", "copy", "web"];

before(() => makeWeb(bed));
startOverAfterFailures(bed);

async function assertAllOrNone(): Promise<void> {
  const vms = (await bed.vms()).filter(({ name }) => name !== "web");
  if (vms.length === 0) return;
  assert.deepEqual(
    vms.map(({ name, phase }) => `${name} ${phase}`).toSorted(),
    COPIES.map((name) => `${name} running`),
  );
  for (const name of COPIES) await assertLives(bed, name);
  await bed.ok(["rm", "-f", ...COPIES]);
}

describe("kill -9 of hearthd during fork leaves the source running, and all copies or none:", () => {
  // The last copy is made when there is another one. The first VM that is created verifies the snapshot;
  // crash-snapshot.test.ts has hearthd die during that.
  const ofTheLastCopy = [
    ...someMomentsOf(CREATE_VM).map((at) => `${at}#${1 + COPIES.length}`),
    ...someMomentsOf(START_VM).map((at) => `${at}#${COPIES.length}`),
  ];
  for (const at of ofTheLastCopy) {
    test(at, async () => {
      const { pid } = await bed.vm("web");
      await crashIn(bed, at, FORK);
      assert.equal((await assertLives(bed)).pid, pid);
      await assertNothingElse(bed);
      await assertAllOrNone();
      await assertNothingElse(bed);
    });
  }

  test("and the next fork makes them all", async () => {
    await endDaemon(bed);
    await bed.ok(FORK);
    assert.equal((await bed.vms()).length, 3);
    await assertAllOrNone();
  });
});

test("kill -9 of the VMM of a copy that starts is an error; no copy is left, and the source runs on", async () => {
  const { pid } = await bed.vm("web");
  const forking = bed.hearth(FORK);
  // The first that comes loads what was saved; those that follow are copies, and have not loaded it yet.
  const seen = new Set<number>();
  while (seen.size < 2) {
    for (const vmm of bed.vmms()) if (vmm.pid !== pid) seen.add(vmm.pid);
    await setImmediate();
  }
  process.kill([...seen].at(-1) ?? 0, "SIGKILL");
  const { code, stderr } = await forking;
  assert.equal(code, 1);
  assert.match(stderr, /^error: /m);
  assert.equal((await assertLives(bed)).pid, pid);
  assert.equal((await bed.vms()).length, 1);
  await assertNothingElse(bed);
});

testNothingIsLeft(bed);
