/** HEARTH_UPDATE_SNAPSHOTS=1 writes help.snapshot.txt. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { COMMANDS } from "#cli/command-table.ts";
import { findCommand } from "#cli/find-command.ts";
import { COMPLETION_SCRIPTS } from "#cli/completion-scripts.ts";
import { allFlags, parseArguments } from "#cli/parse.ts";
import { run } from "#host/run.ts";
import { runCli } from "#testing/cli-run.ts";

const SNAPSHOT = join(import.meta.dirname, "help.snapshot.txt");
const WIDTH = 80;

test("the help of every command matches the reviewed snapshot", async () => {
  const texts = [(await runCli(undefined, ["help"])).stdout];
  for (const name of Object.keys(COMMANDS)) {
    texts.push(
      `--- hearth help ${name}\n\n${(await runCli(undefined, ["help", ...name.split(" ")])).stdout}`,
    );
  }
  const text = texts.join("\n");
  if (process.env["HEARTH_UPDATE_SNAPSHOTS"]) writeFileSync(SNAPSHOT, text);
  assert.equal(text, readFileSync(SNAPSHOT, "utf8"));
  assert.deepEqual(
    text.split("\n").filter((line) => line.length > WIDTH),
    [],
  );
});

test("every command has the same summary in the table and in its file, and its examples parse", async () => {
  for (const [name, row] of Object.entries(COMMANDS)) {
    const { default: command } = await row.load();
    assert.equal(command.path.join(" "), name);
    assert.equal(command.summary, row.summary);
    assert.ok(command.examples.length > 0, name);
    const letters = Object.values(allFlags(command)).flatMap(({ short }) => short ?? []);
    assert.equal(new Set(letters).size, letters.length, `${name}: two flags with one letter`);
    for (const [line] of command.examples) {
      const words =
        /hearth ([^|>)]*)/
          .exec(line.replace(/ \$\(.*?\)/, " x"))?.[1]
          ?.trim()
          .split(" ") ?? [];
      const found = findCommand(words.filter((word) => word !== ""));
      assert.ok(found, line);
      parseArguments((await found.load()).default, found.rest);
    }
  }
});

test("bash accepts the bash completion", async () => {
  const options = { timeoutMs: 10_000, signal: AbortSignal.timeout(10_000) };
  const checked = await run("bash", ["-n"], { ...options, input: COMPLETION_SCRIPTS.bash });
  assert.ok(checked.ok, checked.stderr);
});

for (const shell of ["zsh", "fish"] as const) {
  test(`${shell} accepts the ${shell} completion`, async (context) => {
    const options = { timeoutMs: 10_000, signal: AbortSignal.timeout(10_000) };
    const checked = await run(shell, ["-n", "/dev/stdin"], { ...options, input: COMPLETION_SCRIPTS[shell] });
    if (!checked.ok && checked.error.code === "host.tool_missing")
      return context.skip(`${shell} is not installed`);
    assert.ok(checked.ok, checked.stderr);
  });
}
