/** Runs every command of the README, as it stands there. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Bed } from "./bed.ts";
import { blocksOf, commandsOf, DOC_TIMEOUT_MS, ROOT, sessionOf, typeIn } from "./doc-commands.ts";
import { runCli } from "./run-cli.ts";

const PAGE = "README.md";
const bed = new Bed();
const SESSION = sessionOf(PAGE);
// What runs this test is left out.
const COMMANDS = commandsOf(PAGE).filter((line) => line !== "make test");

test("the README's commands do what it says, one after the other", async (t) => {
  assert.ok(COMMANDS.length > 10, "the commands were found");
  for (const line of COMMANDS) {
    await t.test(line, async () => {
      const result = await typeIn(bed, line);
      const code = Number(/exit (\d+)/.exec(line)?.[1] ?? 0);
      assert.equal(result.code, code, result.stderr);
      const shown = SESSION.find((command) => command.line === line);
      if (shown !== undefined) assert.equal(withoutNames(result.stdout), withoutNames(`${shown.prints}\n`));
      if (line.includes("wc -w")) assert.equal(result.stdout, "3\n");
      if (line.includes("cat /root/note")) assert.equal(result.stdout, "kept\n");
    });
  }
});

/** Replaces what differs from run to run: the VM's name, and the day and version of the guest's kernel. */
function withoutNames(output: string): string {
  return output.replaceAll(/\b[a-z]+-[a-z]+-[0-9a-f]{4}\b/g, "NAME").replaceAll(/[0-9]+/g, "0");
}

test("the README's program runs as it stands there", async () => {
  const [program = ""] = blocksOf(PAGE, "ts");
  // Inside the package, so that it finds itself by its own name.
  const dir = mkdtempSync(join(ROOT, "build", "readme-"));
  try {
    const file = join(dir, "program.ts");
    writeFileSync(file, program);
    const result = await runCli(process.execPath, [file], { env: bed.env, timeoutMs: DOC_TIMEOUT_MS });
    assert.equal(result.code, 0, result.stderr);
    assert.match(result.stdout, /^0 Linux \d/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("the demo runs on a host without KVM or systemd, and says what it skipped", async () => {
  const demo = join(ROOT, "examples", "demo.ts");
  const result = await runCli(process.execPath, [demo], { env: bed.env, timeoutMs: DOC_TIMEOUT_MS });
  assert.equal(result.code, 0, result.stderr);
  assert.match(result.stdout, /after a restart the note says: kept/);
  assert.match(result.stdout, /^running on qemu, started by: host \d+ms, /m);
  assert.match(result.stdout, /^its CPUs are paused$/m);
  assert.match(result.stdout, /^skipped: /m);
});
