/** Every command of docs/snapshots.md is run, as it stands there. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bed } from "./bed.ts";
import { commandsOf, typeIn } from "./doc-commands.ts";

const COMMANDS = commandsOf("docs/snapshots.md");
const bed = new Bed({ warm: true });

test("the commands of docs/snapshots.md do what it says, one after the other", async (t) => {
  assert.ok(COMMANDS.length > 20, "the commands were found");
  for (const line of COMMANDS) {
    await t.test(line, async () => {
      const { code, stdout, stderr } = await typeIn(bed, line);
      assert.equal(code, 0, stderr);
      if (line.includes("cat /run/note")) assert.equal(stdout, "kept\n");
      if (line.includes("snapshot ls")) assert.match(stdout, /^before /m);
    });
  }
  assert.deepEqual(await bed.vms(), []);
  assert.equal(await bed.ok(["snapshot", "ls", "-q"]), "");
});
