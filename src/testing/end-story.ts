/** Tests in which hearthd is told to end once after each of its effects, with a waiting client and open commands. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { errorChain, HearthError } from "#base/error.ts";
import type { Hearth } from "#sdk/hearth.ts";
import { assertNextIsFine, isNextToAnother } from "#testing/crash-story.ts";
import { FakeDaemon } from "#testing/fake-daemon.ts";
import { ENDLESS } from "#testing/guest-command.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import type { FlowStory } from "#testing/flow-stories.ts";
import { Life } from "#testing/life.ts";
import { ServedDaemon } from "#testing/served-daemon.ts";

/** A VM in which a command runs all the time, and which is not changed otherwise. */
const BYSTANDER = "bystander";

/**
 * Makes a test: hearthd is told to end after each effect of a client's request. It ends in order and in time; each
 * client gets its answer, or the error that hearthd stops; and the next hearthd finds all in order, with every answered
 * request done.
 */
export function endTest(story: FlowStory): void {
  test(`a hearthd that is told to end at any moment of ${story.what} ends in order, and nothing is lost`, async () => {
    const { effects } = await endAt(story, Infinity);
    const broken: string[] = [];
    for (const [index, effect] of effects.entries()) {
      if (isNextToAnother(effect)) continue;
      try {
        const { isDone } = await endAt(story, index);
        assert.ok(isDone || index < effects.length - 1, "all was done, but the client was not told so");
      } catch (error) {
        broken.push(`${index}, after ${effect}: ${errorChain(error)}`);
      }
    }
    assert.deepEqual(broken, []);
  });
}

type Ended = {
  readonly effects: readonly string[];
  /** True if the client got a success. */
  readonly isDone: boolean;
};

/** Ends hearthd after a number of effects, or when the client has its answer. */
async function endAt(story: FlowStory, at: number): Promise<Ended> {
  using machine = new FakeMachine();
  await prepare(story, machine);
  const life = new Life();
  const served = await new ServedDaemon(machine, { ...story.options, life }).listen();
  let ended: Promise<boolean> | undefined;
  const hearth = await served.client();
  const commands = await openCommands(served, hearth);
  life.watchEffects((_effect, index) => {
    // As a signal does, between two steps of the work.
    if (index === at) queueMicrotask(() => (ended = served.end()));
    return false;
  });
  const [asked] = await Promise.allSettled([story.ask(hearth)]);
  const effects = [...life.effects];
  assert.equal(ended === undefined, at === Infinity, "it was told to end in the middle");
  assert.equal(await (ended ?? served.end()), true, "it ends in time");
  const isDone = asked.status === "fulfilled";
  if (asked.status === "rejected") assertIsTold(asked.reason);
  for (const command of commands) await command;
  await assertNextIsFine({ ...story, after: isDone ? story.done : undefined }, machine);
  return { effects, isDone };
}

/** Prepares the state, and a second VM, under another hearthd. */
async function prepare(story: FlowStory, machine: FakeMachine): Promise<void> {
  const daemon = await new FakeDaemon(machine, story.options).begin();
  await story.before(daemon);
  await daemon.run(BYSTANDER);
  await daemon.end();
}

/** Runs an endless command in every VM that runs. Each promise resolves when the client has learned of its end. */
async function openCommands({ daemon }: ServedDaemon, hearth: Hearth): Promise<readonly Promise<void>[]> {
  const running = daemon.host.store.listVms().filter(({ state }) => state.phase === "running");
  assert.ok(running.some(({ name }) => name === BYSTANDER));
  const commands: Promise<void>[] = [];
  for (const { name } of running) {
    const command = await hearth.vm(name).spawn([ENDLESS]);
    if (name === BYSTANDER) commands.push(assert.rejects(command.exited, isTold));
    else commands.push(command.exited.then(() => undefined, assertIsClear));
  }
  return commands;
}

function isTold(error: unknown): true {
  assertIsTold(error);
  return true;
}

function assertIsTold(error: unknown): void {
  assert.ok(error instanceof HearthError, errorChain(error));
  assert.equal(error.code, "daemon.stopping", errorChain(error));
  assert.match(error.hint ?? "", /VMs keep running/);
}

/** A command whose VM is ended may report that, instead of the end of hearthd. */
function assertIsClear(error: unknown): void {
  assert.ok(error instanceof HearthError, errorChain(error));
  assert.ok(!["internal.bug", "daemon.unreachable"].includes(error.code), errorChain(error));
}
