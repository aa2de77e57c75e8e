/** Kills hearthd and VMMs while a VM is suspended, and while it is resumed. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { SNAPSHOT_VM } from "#daemon/flows/snapshot-flow.ts";
import { START_VM } from "#daemon/flows/start-flow.ts";
import { STOP_VM } from "#daemon/flows/stop-flow.ts";
import { Bed } from "./bed.ts";
import { crashIn, endDaemon, killVmmsIn, someMomentsOf } from "./crash-flow.ts";
import {
  assertLives,
  assertNothingElse,
  makeWeb,
  startOverAfterFailures,
  testNothingIsLeft,
} from "./saved-crash.ts";

const bed = new Bed();
const WAKERS = [
  ["resume", "web"],
  ["exec", "web", "--", "true"],
] as const;

before(() => makeWeb(bed));
startOverAfterFailures(bed);

/** Checks that no command waited for the half minute after which the agent thaws the guest by itself. */
function assertNoneWaited(): void {
  const log = readFileSync(join(bed.dirs.state, "hearthd.log"), "utf8");
  assert.doesNotMatch(log, /did not answer in time/);
}

describe("kill -9 of hearthd during suspend leaves the VM running or suspended, with all that it had:", () => {
  for (const at of [SNAPSHOT_VM, STOP_VM].flatMap(someMomentsOf)) {
    test(at, async () => {
      await crashIn(bed, at, ["suspend", "web"]);
      const { phase } = await bed.vm("web");
      assert.ok(phase === "running" || phase === "suspended", phase);
      assert.equal(bed.vmms().length, phase === "running" ? 1 : 0);
      assert.equal(bed.snapshotDirs().length, phase === "running" ? 0 : 1);
      await assertLives(bed);
      await assertNothingElse(bed);
      assertNoneWaited();
    });
  }
});

describe("kill -9 of hearthd during a resume leaves the VM running or suspended, with all that it had:", () => {
  for (const [index, at] of someMomentsOf(START_VM).entries()) {
    const waker = WAKERS[index % WAKERS.length] ?? WAKERS[0];
    test(`${at}, by ${waker[0]}`, async () => {
      await bed.ok(["suspend", "web"]);
      await crashIn(bed, at, waker);
      const { phase } = await bed.vm("web");
      assert.ok(phase === "running" || phase === "suspended", phase);
      assert.equal(bed.vmms().length, phase === "running" ? 1 : 0);
      await assertLives(bed);
      await assertNothingElse(bed);
      assertNoneWaited();
    });
  }

  test("again and again: what it wrote before the first suspend and after the last is on its disk", async () => {
    await bed.sh("web", "echo once > /root/once; sync");
    await bed.ok(["suspend", "web"]);
    for (let time = 0; time < 3; time++) {
      await crashIn(bed, "start/boot/done", ["resume", "web"]);
      assert.equal((await bed.vm("web")).phase, "suspended");
    }
    await assertLives(bed);
    await bed.sh("web", "echo twice > /root/twice; sync");
    await endDaemon(bed);
    await bed.ok(["restart", "web"]);
    assert.equal(await bed.sh("web", "cat /root/once /root/twice /root/note"), "once\ntwice\non disk\n");
    await assertNothingElse(bed);
  });
});

describe("kill -9 of the VMM", { concurrency: false }, () => {
  before(async () => {
    await bed.ok(["rm", "-f", "web"]);
    await makeWeb(bed);
  });

  test("while the VM is resumed: the client gets an error, and the VM stays suspended and can be resumed", async () => {
    for (const words of WAKERS) {
      await bed.ok(["suspend", "web"]);
      const waking = bed.hearth(words);
      // As soon as there is one: it has not loaded its memory by then.
      while (bed.vmms().length === 0) await setImmediate();
      for (const { pid } of bed.vmms()) process.kill(pid, "SIGKILL");
      const { code, stderr } = await waking;
      assert.notEqual(code, 0);
      assert.match(stderr, /^error: /m);
      assert.equal((await bed.vm("web")).phase, "suspended");
      assert.deepEqual([bed.vmms(), bed.snapshotDirs().length], [[], 1]);
      await assertLives(bed);
      await assertNothingElse(bed);
    }
  });

  test("when its memory is saved and it is about to be ended: the VM is suspended, and can be resumed", async () => {
    await killVmmsIn(bed, "stop/end the VMM/started", ["suspend", "web"]);
    assert.equal((await bed.vm("web")).phase, "suspended");
    await assertLives(bed);
    await assertNothingElse(bed);
  });

  for (const at of ["snapshot/save/started", "finalize/load/done"]) {
    test(`while the VM is being suspended (${at}): an error, and either all of its memory is left or nothing`, async () => {
      const { code, stderr } = await killVmmsIn(bed, at, ["suspend", "web"]);
      await bed.until(async () => (await bed.vm("web")).phase !== "running");
      const { phase } = await bed.vm("web");
      if (phase === "suspended") {
        assert.equal(code, 0, stderr);
        await assertLives(bed);
      } else {
        assert.equal(code, 1);
        assert.match(stderr, /^error: /m);
        assert.equal(phase, "failed");
        await bed.until(() => bed.launchers().length === 0);
        assert.deepEqual(bed.snapshotDirs(), []);
        await bed.ok(["start", "web"]);
        assert.equal(await bed.sh("web", "cat /root/note"), "on disk\n");
      }
      await assertNothingElse(bed);
      await bed.ok(["rm", "-f", "web"]);
      await makeWeb(bed);
    });
  }
});

testNothingIsLeft(bed);
