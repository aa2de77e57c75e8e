/** Tests one VMM that does not answer, beside one that does. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { Bed } from "./bed.ts";

const bed = new Bed({ config: '[health]\ninterval = "1s"\nkill_after = "20s"\n' });

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await Promise.all(["well", "stuck"].map((name) => bed.ok(["create", "--name", name, "debian"])));
});

test("a VMM that is stopped is shown so, all others answer, and after the deadline it is killed", async () => {
  const { pid } = await bed.vm("stuck");
  assert.ok(pid);
  process.kill(pid, "SIGSTOP");
  await bed.until(async () => (await bed.vm("stuck")).responsive === false);
  assert.match(await bed.ok(["ls"]), /^stuck .*running, silent/m);
  assert.equal(await bed.sh("well", "echo alive"), "alive\n");
  assert.equal((await bed.vm("well")).responsive, true);
  await bed.ok(["stats", "well"]);
  await bed.ok(["pause", "well"]);
  await bed.ok(["resume", "well"]);
  assert.equal(stateOf(pid), "T", "all of that was answered while the other was still stopped");
  await bed.until(async () => (await bed.vm("stuck")).phase === "failed");
  const { lastError } = await bed.vm("stuck");
  assert.equal(lastError?.code, "vmm.unresponsive");
  assert.match(lastError.message, /did not answer for \d+ s/);
  await bed.ok(["start", "stuck"]);
  assert.equal(await bed.sh("stuck", "echo alive"), "alive\n");
});

test("a VMM that answers again in time keeps running", async () => {
  const { pid } = await bed.vm("stuck");
  assert.ok(pid);
  process.kill(pid, "SIGSTOP");
  await bed.until(async () => (await bed.vm("stuck")).responsive === false);
  process.kill(pid, "SIGCONT");
  await bed.until(async () => (await bed.vm("stuck")).responsive === true);
  assert.equal(await bed.sh("stuck", "echo alive"), "alive\n");
  assert.equal((await bed.vm("stuck")).pid, pid);
});

/** As in /proc: T is stopped by a signal. */
function stateOf(pid: number): string | undefined {
  return /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
}
