/** `hearth run`: what goes in, what comes out, and what is left. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { before, describe, test } from "node:test";
import { Bed } from "./bed.ts";
import { said } from "./said.ts";

const bed = new Bed();
const RUN = ["run", "--rm"];

before(async () => void (await bed.ok(["image", "build", "debian"])));

test("run --rm prints what the command prints and nothing else, and leaves nothing", async () => {
  const { code, stdout } = await bed.hearth(["run", "--rm", "debian", "--", "echo", "smoke-bare-ok"]);
  assert.equal(stdout, "smoke-bare-ok\n");
  assert.equal(code, 0);
  await assertNothingLeft();
});

test("stdin, environment, directory and user arrive, both streams and the exit code come back", async () => {
  const script = 'cat; id -un; pwd; echo "$GREETING"; echo to-stderr >&2; exit 42';
  const flags = ["-e", "GREETING=hello  there", "-w", "/tmp", "-u", "nobody", "--quiet"];
  const words = [...RUN, ...flags, "debian", "--", "sh", "-c", script];
  const { code, stdout, stderr } = await bed.hearth(words, { stdin: "from the pipe\n" });
  assert.equal(stdout, "from the pipe\nnobody\n/tmp\nhello  there\n");
  assert.equal(stderr, "to-stderr\n");
  assert.equal(code, 42);
});

test("eight parallel runs each end with their own command's code, and leave nothing", async () => {
  const cases: readonly (readonly [readonly string[], number])[] = [
    [["true"], 0],
    [["false"], 1],
    [["sh", "-c", "exit 42"], 42],
    [["sh", "-c", "exit 255"], 255],
    [["no-such-program"], 127],
    [["/etc/passwd"], 126],
    [["sh", "-c", "kill -TERM $$"], 128 + 15],
    [["sh", "-c", "kill -KILL $$"], 128 + 9],
  ];
  const results = await Promise.all(cases.map(([argv]) => bed.hearth([...RUN, "debian", "--", ...argv])));
  assert.deepEqual(
    results.map(({ code }) => code),
    cases.map(([, code]) => code),
    results.map(({ stderr }) => stderr).join("\n"),
  );
  assert.match(results[4]?.stderr ?? "", /^error: .*no-such-program/m);
  await assertNothingLeft();
});

describe("--rm leaves nothing", () => {
  test("after Ctrl-C during the boot; the exit code is 130", async () => {
    const command = bed.start([...RUN, "debian", "--", "true"]);
    await said(command.stderr, /waiting for the guest/);
    command.kill("SIGINT");
    assert.deepEqual(await once(command, "exit"), [130, null]);
    await nothingLeft();
  });

  test("after Ctrl-C during the command, which gets the signal and whose code comes back", async () => {
    const script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done";
    const command = bed.start([...RUN, "debian", "--", "sh", "-c", script]);
    await said(command.stdout, /ready/);
    const rest = said(command.stdout, /caught/);
    command.kill("SIGINT");
    await rest;
    assert.deepEqual(await once(command, "exit"), [7, null]);
    await nothingLeft();
  });

  test("after kill -9 of the command line during the command", async () => {
    const command = bed.start([...RUN, "debian", "--", "sh", "-c", "echo ready; sleep 1000"]);
    await said(command.stdout, /ready/);
    command.kill("SIGKILL");
    await nothingLeft();
  });

  test("after kill -9 of the command line during the boot", async () => {
    const command = bed.start([...RUN, "debian", "--", "true"]);
    await said(command.stderr, /waiting for the guest/);
    command.kill("SIGKILL");
    await nothingLeft();
  });

  test("after the guest has powered itself off under its command", async () => {
    const { code, stderr } = await bed.hearth([
      ...RUN,
      "debian",
      "--",
      "sh",
      "-c",
      "echo o > /proc/sysrq-trigger; sleep 1000",
    ]);
    assert.equal(code, 125);
    assert.match(stderr, /^error: /m);
    await nothingLeft();
  });
});

test("without --rm the VM stays, stopped, and a run -d leaves it running with its command", async () => {
  await bed.ok(["run", "--name", "stays", "debian", "--", "touch", "/root/mark"]);
  assert.equal((await bed.vm("stays")).phase, "stopped");
  const name = await bed.ok(["run", "-d", "--name", "goes-on", "debian", "--", "sleep", "4242"]);
  assert.equal(name, "goes-on\n");
  assert.match(await bed.sh("goes-on", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), /sleep 4242/);
  await bed.ok(["rm", "-f", "stays", "goes-on"]);
  await assertNothingLeft();
});

test("--timeout stops the VM when its lifetime is over", async () => {
  const name = (await bed.ok(["run", "-d", "--timeout", "8s", "debian"])).trim();
  await bed.until(async () => (await bed.vm(name)).phase === "stopped");
  assert.equal((await bed.vm(name)).exit?.reason, "asked");
  await bed.ok(["rm", name]);
});

test("a foreground run that is still busy ends with its VM's lifetime, by SIGTERM", async () => {
  const { code } = await bed.hearth([...RUN, "--timeout", "8s", "debian", "--", "sleep", "1000"]);
  assert.equal(code, 128 + 15, "the guest ends what runs before it powers off");
  await nothingLeft();
});

test("what cannot be is refused with its rule before anything is made", async () => {
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [["--cpus", "0"], /cpus/],
    [["--cpus", "33"], /cpus/],
    [["--cpus", "two"], /cpus/],
    [["--memory", "512"], /memory: .*unit/],
    [["--memory", "1M"], /memory/],
    [["--disk", "1M"], /disk/],
    [["--timeout", "5"], /timeout: .*unit/],
    [["--network", "bridge"], /network/],
    [["--driver", "bochs"], /driver/],
    [["--kernel", "9.9.9"], /kernel/i],
    [["--boot-args", "init=/bin/sh"], /boot/],
    [["--name", "../up"], /name/],
    [["--name", "Big"], /name/],
    [["--name", "-a"], /name/],
    [["--name", ""], /name/],
    [["--name", "a".repeat(64)], /name/],
    [["--name", "naïve"], /name/],
    [["--nmae", "web"], /--name/],
  ];
  for (const [flags, says] of wrong) {
    const { code, stdout, stderr } = await bed.hearth(["run", ...flags, "debian", "--", "true"]);
    assert.equal(stdout, "");
    assert.equal(code, 125, `${flags.join(" ")}: ${stderr}`);
    assert.match(stderr, says);
    assert.match(stderr, /^error: .*\n(.*\n)*hint: /m, `${flags.join(" ")} has a hint: ${stderr}`);
  }
  const noImage = await bed.hearth(["run", "no-such-image", "--", "true"]);
  assert.equal(noImage.code, 125);
  await assertNothingLeft();
});

async function assertNothingLeft(): Promise<void> {
  assert.deepEqual(await bed.vms(), []);
  assert.deepEqual(bed.leftovers(), []);
}

/** Asserts that nothing is left, once hearthd has noticed that its client has gone. */
async function nothingLeft(): Promise<void> {
  await bed.until(async () => (await bed.vms()).length === 0);
  assert.deepEqual(bed.leftovers(), []);
}
