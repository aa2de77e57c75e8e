import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("an unknown command is refused with the nearest one and exit code 2", async () => {
  const { code, stderr } = await runCli(undefined, ["runn", "debian"]);
  assert.equal(code, 2);
  assert.match(stderr, /"runn" is not a command/);
  assert.match(stderr, /hearth run/);
});

test("an unknown flag is refused with the nearest one, before hearthd is contacted", async (t) => {
  const served = await serveDaemon(t);
  const { code, stderr } = await runCli(served, ["create", "--memry", "1G", "debian"]);
  assert.equal(code, 2);
  assert.match(stderr, /--memory/);
  assert.equal(served.requests, 0);
});

test("invalid flags of a VM are refused before hearthd is contacted", async (t) => {
  const served = await serveDaemon(t);
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [["--cpus", "0"], /whole number from 1 to 32/],
    [["--cpus", "2.5"], /whole number/],
    [["--cpus", "33"], /whole number/],
    [["--memory", "512"], /512M or 512G/],
    [["--memory", "1M"], /out of range/],
    [["--disk", "999T"], /out of range/],
    [["--timeout", "90"], /90s or 90m/],
    [["--name", "MyVM"], /a-z, 0-9/],
    [["--name", "box/../evil"], /a-z, 0-9/],
    [["--name", "-a"], /a-z, 0-9/],
    [["--name", ""], /a-z, 0-9/],
    [["--network", "bridge"], /none, nat, allow-all/],
    [["-e", "1X=2"], /variable/],
    [["-e", "NOT_SET_HERE"], /is not set here/],
  ];
  for (const [flags, said] of wrong) {
    const { code, stderr } = await runCli(served, ["create", ...flags, "debian"]);
    assert.equal(code, 2, flags.join(" "));
    assert.match(stderr, said);
  }
  assert.equal(served.requests, 0);
});

test("an invalid VM name is refused by every command that takes one", async (t) => {
  const served = await serveDaemon(t);
  const names = [
    "UPPER",
    "a b",
    "a\n",
    "a\tb",
    ".",
    "..",
    "a/b",
    "a:b",
    "a=b",
    'a"b',
    "\u001b[31m",
    "ü",
    "-a",
    "a-",
    "x".repeat(64),
    "x".repeat(65_536),
    "",
  ];
  for (const verb of [
    "start",
    "stop",
    "restart",
    "kill",
    "pause",
    "resume",
    "suspend",
    "fork",
    "rm",
    "show",
    "logs",
    "stats",
    "set",
    "shell",
  ]) {
    for (const name of names) {
      const { code, stderr } = await runCli(served, [verb, "--", name]);
      assert.ok(
        code === 2 || (verb === "shell" && code === 125),
        `${verb} ${JSON.stringify(name.slice(0, 80))}: ${code}`,
      );
      assert.doesNotMatch(stderr, /\u001b/);
    }
  }
  assert.equal(served.requests, 0);
});

test("with --json an error is an object on stdout, with the same exit code", async (t) => {
  const served = await serveDaemon(t);
  const { code, stdout, stderr } = await runCli(served, ["show", "gone", "--json"]);
  assert.equal(code, 1);
  assert.equal(stderr, "");
  const { error } = JSON.parse(stdout);
  assert.equal(error.code, "vm.not_found");
  assert.match(error.operation, /^op-[0-9a-f]{12}$/);
  assert.equal(JSON.parse((await runCli(served, ["--json", "nonsense"])).stdout).error.code, "input.invalid");
  assert.equal(
    JSON.parse((await runCli(served, ["ls", "--jsn", "--json"])).stdout).error.code,
    "input.invalid",
  );
});

test("an error names its operation, so that hearthd's log can be searched", async (t) => {
  const served = await serveDaemon(t);
  const { stderr } = await runCli(served, ["show", "gone"]);
  const logged = served.host.machine.events.find(({ name }) => name === "api.failed");
  assert.ok(logged);
  const { operation } = logged.fields as { operation: string };
  assert.equal(
    stderr,
    `error: There is no VM "gone".\nhint: \`hearth ls\` lists the VMs.\noperation: ${operation}\n`,
  );
});

test("when hearthd cannot be reached, ls prints an error and exits with 1", async () => {
  const home = `/tmp/${"x".repeat(120)}`;
  const { code, stderr } = await runCli(undefined, ["ls"], { env: { HEARTH_HOME: home } });
  assert.equal(code, 1);
  assert.match(stderr, /HEARTH_HOME to a shorter path/);
});

test("flags before the command belong to it", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  assert.equal(JSON.parse((await runCli(served, ["--json", "ls"])).stdout)[0].name, "web");
  assert.match((await runCli(served, ["--help"])).stdout, /Virtual machines/);
  assert.match((await runCli(served, ["--help", "rm"])).stdout, /Remove VMs/);
  assert.match((await runCli(served, ["rm", "--help"])).stdout, /Remove VMs/);
  assert.match((await runCli(served, ["-V"])).stdout, /^hearth \d/);
});

test("colours are for terminals that want them", async (t) => {
  const served = await serveDaemon(t);
  const coloured = await runCli(served, ["show", "gone"], { terminalColumns: 80 });
  assert.match(coloured.stderr, /\u001b\[1;31merror:/);
  const plain = await runCli(served, ["show", "gone"], { terminalColumns: 80, env: { NO_COLOR: "1" } });
  assert.doesNotMatch(plain.stderr, /\u001b\[1;31m/);
});

test("a hearthd of another version is a note, and not an error", async (t) => {
  const served = await serveDaemon(t, { version: "0.0.1" });
  const { code, stderr } = await runCli(served, ["ls", "-q"]);
  assert.equal(code, 0);
  assert.match(
    (await runCli(served, ["image", "ls"])).stderr,
    /note: hearthd 0\.0\.1 is running, .*hearth daemon stop/,
  );
  assert.equal(stderr, "");
});
