import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandEnd } from "#cli/command-end.ts";
import type { CommandEndOptions, Waits } from "#cli/command-end.ts";
import { Out } from "#cli/output.ts";
import { CliRun, testIo } from "#testing/cli-run.ts";
import { BreakableRelay } from "#testing/breakable-relay.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const NEVER = new Promise<never>(() => undefined);
const WAITS: Waits = { endMs: 1, startMs: 1, answerMs: 10_000, againMs: 1 };

/** A command that ignores every signal. */
function stubborn() {
  const signals: string[] = [];
  return { signals, vm: undefined, signal: (name: string) => void signals.push(name) };
}

function watch(options: Partial<CommandEndOptions>) {
  const world = testIo([], {});
  const out = new Out(world.io, { json: false, quiet: false });
  const answers = () => Promise.resolve(true);
  return { ...world, end: new CommandEnd({ tty: false, answers, waits: WAITS, ...options }, world.io, out) };
}

test("a command whose guest does not end it in time is given up with 124, before and after its start", async () => {
  for (const isStarted of [false, true]) {
    const { end, stderr } = watch({ timeoutMs: 1 });
    if (isStarted) end.started(stubborn());
    assert.deepEqual(await end.gaveUp, { exitCode: 124, timedOut: true });
    assert.match(stderr(), /its time is up/);
    assert.ok(end.signal.aborted);
    end[Symbol.dispose]();
  }
});

for (const [name, exitCode] of [
  ["SIGTERM", 143],
  ["SIGINT", 130],
  ["SIGHUP", 129],
  ["SIGQUIT", 131],
] as const) {
  test(`after one ${name} a command is given up when its guest stops answering`, async () => {
    const command = stubborn();
    let answered = 0;
    const answers = () => Promise.resolve(++answered < 3);
    const { end, signal, stderr } = watch({ answers });
    end.started(command);
    signal(name);
    assert.deepEqual(await end.gaveUp, { exitCode, timedOut: false });
    assert.deepEqual(command.signals, [name]);
    assert.equal(answered, 3);
    assert.match(stderr(), /does not answer/);
    end[Symbol.dispose]();
  });
}

test("a hearthd that takes the question and never answers counts as no answer", async () => {
  const { end, signal } = watch({ answers: () => NEVER, waits: { ...WAITS, answerMs: 1 } });
  end.started(stubborn());
  signal("SIGTERM");
  assert.equal((await end.gaveUp).exitCode, 143);
  end[Symbol.dispose]();
});

test("the third SIGINT or SIGTERM gives up, also with a terminal; other signals never do", async () => {
  const command = stubborn();
  const { end, signal } = watch({ tty: true, answers: () => NEVER });
  end.started(command);
  for (const name of ["SIGUSR1", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGHUP", "SIGHUP", "SIGINT", "SIGINT"])
    signal(name);
  assert.equal(end.signal.aborted, false);
  assert.equal(command.signals.length, 8);
  signal("SIGTERM");
  assert.equal((await end.gaveUp).exitCode, 143);
  end[Symbol.dispose]();
});

test("a signal goes to a command whose guest answers, which is waited for as long as it takes", async () => {
  let answered = 0;
  const enough = Promise.withResolvers<void>();
  const answers = () => {
    if (++answered === 5) enough.resolve();
    return Promise.resolve(true);
  };
  const { end, signal } = watch({ answers });
  end.started(stubborn());
  signal("SIGTERM");
  await enough.promise;
  assert.equal(end.signal.aborted, false);
  end[Symbol.dispose]();
});

test("one SIGTERM, as timeout(1) sends it, ends exec, run and shell on a VM that was paused", async (t) => {
  for (const words of [
    ["exec", "web", "--"],
    ["exec", "--json", "web", "--"],
    ["run", "--name", "web", "debian"],
  ]) {
    const served = await serveDaemon(t);
    if (words[0] === "exec") await served.run("web");
    const cli = new CliRun(served, [...words, "deaf"], { stdin: "x" });
    await served.until(() => (served.commands()[0]?.stdinBytes ?? 0) > 0); // It has started.
    await (await served.client()).vm("web").pause();
    cli.signal("SIGTERM");
    assert.equal(await cli.code, 143);
    await served.until(() => served.commands()[0]?.state === "left");
  }
});

test("a hearthd that is stopped does not keep a command: a third signal ends it", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const relay = await BreakableRelay.start(t, served);
  const cli = new CliRun(relay, ["exec", "web", "--", "deaf"], { stdin: "x" });
  await served.until(() => (served.commands()[0]?.stdinBytes ?? 0) > 0); // It has started, and ignores signals.
  relay.isSilent = true;
  for (const _ of [1, 2, 3]) cli.signal("SIGTERM");
  assert.equal(await cli.code, 143);
});

test("a hearthd that takes the connection and says nothing does not keep a command that has not started", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const relay = await BreakableRelay.start(t, served);
  relay.isSilent = true;
  const cli = new CliRun(relay, ["exec", "web", "--", "wait"]);
  await relay.sent(1);
  cli.signal("SIGTERM");
  assert.equal(await cli.code, 143);
});
