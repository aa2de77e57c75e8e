import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandEnd } from "#cli/command-end.ts";
import type { CommandEndOptions, Waits } from "#cli/command-end.ts";
import { Out } from "#cli/output.ts";
import { testIo } from "#testing/cli-run.ts";

const NEVER = new Promise<never>(() => undefined);
const WAITS: Waits = { endMs: 1, startMs: 1, answerMs: 10_000, againMs: 1 };

/** Makes a command that ignores every signal. */
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

test("a command that its guest does not end in time ends with 124, before and after its start", async () => {
  for (const isStarted of [false, true]) {
    const { end, stderr } = watch({ timeoutMs: 1 });
    if (isStarted) end.started(stubborn());
    assert.deepEqual(await end.abandoned, { exitCode: 124, timedOut: true });
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
  test(`after one ${name} the wait for a command ends when its guest stops answering`, async () => {
    const command = stubborn();
    let answered = 0;
    const answers = () => Promise.resolve(++answered < 3);
    const { end, signal, stderr } = watch({ answers });
    end.started(command);
    signal(name);
    assert.deepEqual(await end.abandoned, { exitCode, timedOut: false });
    assert.deepEqual(command.signals, [name]);
    assert.equal(answered, 3);
    assert.match(stderr(), /does not answer/);
    end[Symbol.dispose]();
  });
}

test("a hearthd that never answers is treated like a guest that does not answer", async () => {
  const { end, signal } = watch({ answers: () => NEVER, waits: { ...WAITS, answerMs: 1 } });
  end.started(stubborn());
  signal("SIGTERM");
  assert.equal((await end.abandoned).exitCode, 143);
  end[Symbol.dispose]();
});

test("the third SIGINT or SIGTERM ends the wait, also with a terminal; other signals never do", async () => {
  const command = stubborn();
  const { end, signal } = watch({ tty: true, answers: () => NEVER });
  end.started(command);
  for (const name of ["SIGUSR1", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGHUP", "SIGHUP", "SIGINT", "SIGINT"])
    signal(name);
  assert.equal(end.signal.aborted, false);
  assert.equal(command.signals.length, 8);
  signal("SIGTERM");
  assert.equal((await end.abandoned).exitCode, 143);
  end[Symbol.dispose]();
});

test("a command that gets a signal is waited for without a limit while its guest answers", async () => {
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
