import assert from "node:assert/strict";
import { test } from "node:test";
import { command } from "#cli/command.ts";
import { parseArguments } from "#cli/parse.ts";

const COMMAND = command({
  path: ["do"],
  summary: "Do something",
  args: [{ name: "ONE" }, { name: "MORE", optional: true }],
  flags: {
    all: { short: "a", help: "" },
    noStart: { short: "n", help: "" },
    env: { short: "e", value: "NAME", many: true, help: "" },
    kind: { value: "KIND", choices: ["x", "y"], help: "" },
  },
  examples: [["hearth do it", ""]],
  run: () => Promise.resolve(),
});
const GUEST = command({
  ...COMMAND,
  args: [{ name: "VM" }, { name: "COMMAND", optional: true, many: true }],
  flags: {
    tty: { short: "t", help: "" },
    user: { short: "u", value: "USER", help: "" },
    env: { short: "e", value: "NAME", many: true, help: "" },
  },
  passThrough: true,
});

test("flags may stand before, between and after operands, combined, and with their value in any form", () => {
  const { args, flags } = parseArguments(COMMAND, [
    "-an",
    "one",
    "-eA=1",
    "--env",
    "B",
    "--env=C=",
    "two",
    "--kind=y",
    "-e",
    "-x",
  ]);
  assert.deepEqual(args, ["one", "two"]);
  assert.deepEqual(flags, {
    all: true,
    noStart: true,
    env: ["A=1", "B", "C=", "-x"],
    kind: "y",
    json: false,
    quiet: false,
  });
  assert.deepEqual(parseArguments(COMMAND, ["one"]).flags, {
    all: false,
    noStart: false,
    env: [],
    kind: undefined,
    json: false,
    quiet: false,
  });
  assert.deepEqual(parseArguments(COMMAND, ["-", "--", "--all"]).args, ["-", "--all"]);
});

test("everything after the first operand belongs to the guest's command", () => {
  const argsOf = (...words: string[]) => parseArguments(GUEST, words).args;
  assert.deepEqual(argsOf("vm", "-t", "--user", "x", "--", "-h"), ["vm", "-t", "--user", "x", "--", "-h"]);
  assert.deepEqual(argsOf("-u", "vm", "-t", "web", "--", "ls", "--", "-l"), ["web", "ls", "--", "-l"]);
  assert.deepEqual(argsOf("--", "web", "--", "-l"), ["web", "-l"]);
  assert.deepEqual(argsOf("web", "--", "--"), ["web", "--"]);
  assert.deepEqual(argsOf("web", "--unknown", "__proto__"), ["web", "--unknown", "__proto__"]);
  assert.deepEqual(parseArguments(GUEST, ["-tu", "root", "web", "sh"]).flags, {
    tty: true,
    user: "root",
    env: [],
    json: false,
    quiet: false,
  });
});

test("--help is a flag of hearth, and never taken from a guest's command", () => {
  assert.equal(parseArguments(COMMAND, ["-h"]).help, true);
  assert.equal(parseArguments(COMMAND, ["one", "two", "three", "--help"]).help, true);
  assert.equal(parseArguments(GUEST, ["-t", "--help", "web"]).help, true);
  assert.equal(parseArguments(GUEST, ["web", "--help"]).help, false);
  assert.equal(parseArguments(COMMAND, ["-e", "-h", "one"]).help, false, "a value");
});

for (const [words, message, hint] of [
  [["one", "--kid", "x"], /--kid is not a flag/, /Did you mean --kind\?/],
  [["one", "-z"], /-z is not a flag/, /hearth help do/],
  [["one", "--no-all"], /--no-all is not a flag/, /hearth help do/],
  [["one", "--constructor"], /--constructor is not a flag/, /hearth help do/],
  [["one", "--all=yes"], /--all takes no value/, /Write --all alone/],
  [["one", "--kind"], /--kind needs a value/, /Write --kind KIND/],
  [["one", "--kind", "z"], /--kind: "z" is not one of x, y/, /Choose one of x, y/],
  [[], /ONE is missing/, /hearth do it/],
  [["--all"], /ONE is missing/, /hearth do it/],
  [["one", "two", "three"], /unexpected argument "three"/, /hearth help do/],
] as const)
  test(`\`${words.join(" ")}\` is refused with a hint`, () => {
    assert.throws(() => parseArguments(COMMAND, words), { code: "input.invalid", message, hint });
  });
