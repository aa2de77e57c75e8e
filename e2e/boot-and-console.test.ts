/** Tests what the guest's console is for: a boot that fails says why; one that floods fills nothing. */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { before, describe, test } from "node:test";
import { LIMITS } from "#model/limits.ts";
import { Bed } from "./bed.ts";

const bed = new Bed();
const FLOOD_BYTES = 512 * 1024;

before(async () => void (await bed.ok(["image", "build", "debian"])));

describe("a boot that does not reach the agent", () => {
  test("says where on the console the kernel panicked, and leaves the VM failed with that error and no VMM", async () => {
    const words = ["create", "--name", "poor", "--boot-args", "mem=64M", "debian"];
    const { code, stderr } = await bed.hearth(words);
    assert.equal(code, 1);
    assert.match(stderr, /^error: poor did not boot\. The end of its console:\n(  .*\n){3,}/m);
    assert.match(stderr, /Kernel panic/);
    assert.match(stderr, /^hint: .*hearth logs poor/m);
    assert.deepEqual(bed.vmms(), []);
    const { phase, lastError } = await bed.vm("poor");
    assert.deepEqual([phase, lastError?.code], ["failed", "vm.boot_failed"]);
    assert.match(await bed.ok(["logs", "poor"]), /Kernel panic/);
    await bed.ok(["rm", "poor"]);
    assert.deepEqual(bed.leftovers(), []);
  });

  test("of a run --rm leaves nothing", async () => {
    const words = ["run", "--rm", "--boot-args", "mem=64M", "debian", "--", "true"];
    const { code, stderr } = await bed.hearth(words);
    assert.equal(code, 125);
    assert.match(stderr, /did not boot/);
    assert.deepEqual(await bed.vms(), []);
    assert.deepEqual(bed.leftovers(), []);
  });
});

test("a guest that floods its console leaves disk use and hearthd's memory constant, and the end of its output is kept", async () => {
  await bed.ok(["create", "--no-start", "--name", "loud", "debian"]);
  const { paths } = await bed.vm("loud");
  // As after a long flood: an emulated serial port takes a minute for what a full log holds.
  const old = Buffer.alloc(LIMITS.logFileMaxBytes, "an old line\n");
  writeFileSync(`${paths.console}.1`, old);
  writeFileSync(paths.console, old.subarray(0, -FLOOD_BYTES / 2));
  await bed.ok(["start", "loud"]);
  const rssBefore = daemonRssKb();
  const line = "x".repeat(63);
  await bed.sh("loud", `yes ${line} | head -c ${FLOOD_BYTES} > /dev/console; echo THE END > /dev/console`);
  await bed.until(async () => (await bed.ok(["logs", "-n", "3", "loud"])).includes("THE END"));
  const [now = 0, older = 0] = [paths.console, `${paths.console}.1`].map((path) => statSync(path).size);
  assert.ok(now > 0 && now < 2 * FLOOD_BYTES, `a new file was begun, of ${now} bytes by now`);
  assert.equal(older, LIMITS.logFileMaxBytes, "the full one is kept beside it");
  const grownKb = daemonRssKb() - rssBefore;
  assert.ok(grownKb < 32 * 1024, `hearthd took ${grownKb} kB more`);
  assert.equal(await bed.sh("loud", "echo alive"), "alive\n");
});

function daemonRssKb(): number {
  const daemon = bed.daemon();
  assert.ok(daemon);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${daemon.pid}/status`, "utf8"))?.[1]);
}
