/**
 * hearthd, or a VMM, is killed while a VM is saved, copied, put to sleep or woken. The VM is `web`, the same one from
 * crash to crash: what one of them spoils, the next one shows.
 */
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { Vm } from "#api/wire.ts";
import { SMALL } from "./templates.ts";
import type { Bed } from "./bed.ts";
import { endDaemon } from "./crash-flow.ts";

/** In memory, and on the disk. */
const NOTES = "cat /run/note /root/note";
/** Goes on as long as nothing holds it. */
const COUNTER =
  "i=0; while :; do i=$((i + 1)); echo $i > /run/count.new; mv /run/count.new /run/count; sleep 0.2; done";

/** A VM with something in its memory and on its disk, and a program that runs. */
export async function makeWeb(bed: Bed): Promise<void> {
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
  await bed.sh("web", "echo in memory > /run/note; echo on disk > /root/note; sync");
  await bed.ok(["exec", "-d", "web", "--", "bash", "-c", COUNTER]);
}

/** Checks that it runs, or is resumed by the next command: with its memory, its disk, and its program, not frozen. */
export async function assertLives(bed: Bed, name = "web"): Promise<Vm> {
  const { phase } = await bed.vm(name);
  assert.ok(phase === "running" || phase === "suspended", `${name} is ${phase}`);
  assert.equal(await bed.sh(name, NOTES), "in memory\non disk\n");
  const count = async (): Promise<number> => Number(await bed.sh(name, "cat /run/count"));
  const before = await count();
  await bed.until(async () => (await count()) > before);
  return bed.vm(name);
}

/** A test that fails may leave anything: the next one begins with a new `web`. */
export function startOverAfterFailures(bed: Bed): void {
  afterEach(async (context) => {
    // Node has had it since 22.17; its types have not.
    const { passed } = context as unknown as { readonly passed: boolean };
    if (!passed) await startOver(bed);
  });
}

async function startOver(bed: Bed): Promise<void> {
  await endDaemon(bed); // One that is not to die any more.
  for (const { name } of await bed.vms()) await bed.ok(["rm", "-f", name]);
  const saved = (await bed.ok(["snapshot", "ls", "-q"])).split("\n").filter((name) => name !== "");
  if (saved.length > 0) await bed.ok(["snapshot", "rm", ...saved]);
  await makeWeb(bed);
}

/** Adds the test that nothing is left. Call it last: the bed is gone after all tests. */
export function testNothingIsLeft(bed: Bed): void {
  test("nothing is left of all that", async () => {
    await endDaemon(bed); // One that is not to die any more.
    await bed.hearth(["rm", "-f", "web"]);
    assert.deepEqual(bed.leftovers(), []);
  });
}

/** Beside VMs that are there, and what users have saved, nothing is. */
export async function assertNothingElse(bed: Bed): Promise<void> {
  const vms = await bed.vms();
  const saved = await (await bed.connect()).snapshots.list();
  const known = new Set(saved.map(({ id }) => `snapshot ${id}`));
  const left = bed.leftovers(vms.map(({ id }) => id));
  assert.deepEqual(
    left.filter((found) => !known.delete(found)),
    [],
  );
  assert.deepEqual([...known], [], "what is listed is there");
  const running = vms.filter(({ phase }) => phase === "running");
  assert.deepEqual(
    bed
      .vmms()
      .map(({ pid }) => pid)
      .toSorted(),
    running.map(({ pid }) => pid).toSorted(),
  );
}
