/** hearthd and VMMs are killed while a VM is saved, and while it goes back. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-flow.ts";
import { FINALIZE_SNAPSHOT } from "#daemon/flows/finalize-flow.ts";
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
import { said } from "./said.ts";

const bed = new Bed();
const SAVE = ["snapshot", "create", "web", "s1"];

before(() => makeWeb(bed));
startOverAfterFailures(bed);

/** Checks that the snapshot can be restored, or does not exist. */
async function assertWholeOrNothing(): Promise<void> {
  const saved = await bed.ok(["snapshot", "ls", "-q"]);
  if (saved === "") return;
  assert.equal(saved, "s1\n");
  await bed.ok(["create", "--name", "copy", "--snapshot", "s1"]);
  await assertLives(bed, "copy");
  await bed.ok(["rm", "-f", "copy"]);
  await bed.ok(["snapshot", "rm", "s1"]);
}

describe("kill -9 of hearthd during snapshot create leaves the VM running, and a complete snapshot or none:", () => {
  // The VM that verifies what was saved is created and removed on the way.
  const flows: Flow<never>[] = [SNAPSHOT_VM, CREATE_VM, FINALIZE_SNAPSHOT, REMOVE_VM];
  for (const at of flows.flatMap(someMomentsOf)) {
    test(at, async () => {
      const { pid } = await bed.vm("web");
      await crashIn(bed, at, SAVE);
      const vm = await assertLives(bed);
      assert.deepEqual([vm.phase, vm.pid], ["running", pid], "it is the same one");
      await assertNothingElse(bed);
      await assertWholeOrNothing();
      await assertNothingElse(bed);
    });
  }
});

describe("kill -9 of hearthd during snapshot restore leaves the VM as it was, or stopped and restorable:", () => {
  before(async () => {
    await bed.ok(SAVE);
    await bed.sh("web", "echo later > /run/note; echo later > /root/note; sync");
  });

  for (const at of [STOP_VM, START_VM].flatMap(someMomentsOf)) {
    test(at, async () => {
      await crashIn(bed, at, ["snapshot", "restore", "s1"]);
      const { phase } = await bed.vm("web");
      assert.ok(["running", "stopped", "failed"].includes(phase), phase);
      await assertNothingElse(bed);
      assert.equal(await bed.ok(["snapshot", "ls", "-q"]), "s1\n");
      if (phase === "running") assert.match(await bed.sh("web", "cat /root/note"), /^(later|on disk)\n$/);
      await bed.ok(["snapshot", "restore", "s1"]);
      await assertLives(bed);
      await assertNothingElse(bed);
    });
  }

  after(async () => {
    await endDaemon(bed); // One that is not to die any more.
    await bed.ok(["rm", "-f", "web"]);
    await bed.ok(["snapshot", "rm", "s1"]);
    await makeWeb(bed);
  });
});

describe(
  "kill -9 of a VMM during snapshot create is an error, and leaves no snapshot:",
  { concurrency: false },
  () => {
    async function assertFailed(code: number, stderr: string): Promise<void> {
      assert.equal(code, 1, stderr);
      assert.match(stderr, /^error: /m);
      await bed.until(async () => (await bed.vm("web")).phase === "failed");
      await bed.until(() => bed.launchers().length === 0);
      await assertNothingElse(bed);
      assert.equal(await bed.ok(["snapshot", "ls", "-q"]), "");
      await bed.ok(["start", "web"]);
      assert.equal(await bed.sh("web", "cat /root/note"), "on disk\n");
    }

    test("the VM's own, before its memory is saved", async () => {
      const { code, stderr } = await killVmmsIn(bed, "snapshot/save/started", SAVE);
      await assertFailed(code, stderr);
    });

    test("the VM's own, while its memory is saved", async () => {
      const command = bed.start(SAVE);
      let stderr = "";
      command.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
      const exit = once(command, "exit");
      await said(command.stderr, /saving/);
      const { pid } = await bed.vm("web");
      assert.ok(pid);
      process.kill(pid, "SIGKILL");
      const [code] = (await exit) as [number];
      await assertFailed(code, stderr);
    });

    test("the one that loads the snapshot: the VM keeps running", async () => {
      await bed.ok(["rm", "-f", "web"]);
      await makeWeb(bed);
      const { pid } = await bed.vm("web");
      const command = bed.start(SAVE);
      const exit = once(command, "exit");
      const told = said(command.stderr, /^error: /m);
      const hidden = (): number | undefined => bed.vmms().find((vmm) => vmm.pid !== pid)?.pid;
      await bed.until(() => hidden() !== undefined);
      process.kill(hidden() ?? 0, "SIGKILL");
      await told;
      assert.deepEqual(await exit, [1, null]);
      const vm = await assertLives(bed);
      assert.equal(vm.pid, pid);
      await assertNothingElse(bed);
      assert.equal(await bed.ok(["snapshot", "ls", "-q"]), "");
      await bed.ok(SAVE); // The next one is well.
      await assertWholeOrNothing();
    });
  },
);

testNothingIsLeft(bed);
