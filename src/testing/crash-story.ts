/** Tests in which hearthd dies once after each of its effects, and a second hearthd recovers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { errorChain, toHearthError } from "#base/error.ts";
import { snapshotsDir } from "#daemon/store/paths.ts";
import type { VmRecord } from "#model/vm.ts";
import { FakeDaemon } from "#testing/fake-daemon.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import type { FakeHostOptions } from "#testing/fake-host.ts";
import { Life } from "#testing/life.ts";
import type { When } from "#testing/life.ts";

export type CrashStory = {
  /** The options of every hearthd of this machine. */
  readonly options?: Omit<FakeHostOptions, "life"> | undefined;
  /** Prepares the state before the action. */
  readonly before: (daemon: FakeDaemon) => Promise<unknown>;
  /** The action during which hearthd dies. */
  readonly act: (daemon: FakeDaemon) => Promise<unknown>;
  /** Acts as guests do when hearthd has had this effect. */
  readonly meanwhile?: ((effect: string, machine: FakeMachine) => void) | undefined;
  /** Some of the effects that it dies after, which proves that the test covers them. */
  readonly includes: readonly string[];
  /** Checks that hold after every death, in addition to the general ones; before any VM is resumed. */
  readonly after?: ((daemon: FakeDaemon) => Promise<unknown> | unknown) | undefined;
  /** Checks that hold when all VMs run again. */
  readonly resumed?: ((daemon: FakeDaemon) => Promise<unknown> | unknown) | undefined;
};

/** Makes a test: hearthd dies after each effect of `act`, and each time the next hearthd finds all in order. */
export function crashTest(promise: string, story: CrashStory): void {
  test(promise, async () => {
    const effects = await effectsOf(story);
    for (const effect of story.includes)
      assert.ok(effects.includes(effect), `${effect} is none of ${effects.join("\n")}`);
    const broken: string[] = [];
    for (const [index, effect] of effects.entries()) {
      try {
        using machine = new FakeMachine();
        await dieIn(story, machine, index);
        await assertNextIsFine(story, machine);
      } catch (error) {
        broken.push(`${index}, after ${effect}: ${errorChain(error)}`);
      }
    }
    assert.deepEqual(broken, []);
  });
}

/** Makes a test in which the next hearthd dies, too: after each effect of its recovery. */
export function crashTwiceTest(promise: string, story: CrashStory): void {
  test(promise, async () => {
    const effects = await effectsOf(story);
    const broken: string[] = [];
    for (const effect of story.includes) {
      for (let second = 0, isOver = false; !isOver; second++) {
        try {
          using machine = new FakeMachine();
          await dieIn(story, machine, effects.indexOf(effect));
          isOver = !(await dieAtBegin(story, machine, second));
          await assertNextIsFine(story, machine);
        } catch (error) {
          broken.push(`after ${effect}, and then ${second}: ${errorChain(error)}`);
        }
      }
    }
    assert.deepEqual(broken, []);
  });
}

/**
 * Makes a test without a death: each effect of `act` fails once, before it happens and after, in a hearthd that lives
 * on and ends in order. No VM may have two VMMs then, and the next hearthd finds all in order.
 */
export function failTest(promise: string, story: CrashStory): void {
  test(promise, async () => {
    const effects = await effectsOf(story);
    const broken: string[] = [];
    for (const [index, effect] of effects.entries()) {
      for (const when of ["before", "after"] as const) {
        try {
          using machine = new FakeMachine();
          await failIn(story, machine, index, when);
          await assertNextIsFine(story, machine);
        } catch (error) {
          broken.push(`${index}, ${when} ${effect}: ${errorChain(error)}`);
        }
      }
    }
    assert.deepEqual(broken, []);
  });
}

/** A second action. With `promised`, it succeeds unless there is no VM, and that is so afterwards. */
export type Contender = {
  readonly act: (daemon: FakeDaemon) => Promise<unknown>;
  readonly promised?: (daemon: FakeDaemon) => void;
};

/** Makes a test with a second action, which begins after each effect of the first. Neither may meet a bug of Hearth. */
export function contendTest(promise: string, story: CrashStory, contender: Contender): void {
  test(promise, async () => {
    const effects = await effectsOf(story);
    const broken: string[] = [];
    for (const [index, effect] of effects.entries()) {
      if (isNextToAnother(effect)) continue;
      try {
        using machine = new FakeMachine();
        await contendIn(story, machine, index, contender);
        await assertNextIsFine(story, machine);
      } catch (error) {
        broken.push(`${index}, after ${effect}: ${errorChain(error)}`);
      }
    }
    assert.deepEqual(broken, []);
  });
}

/**
 * Tells whether nothing is done between an effect and the next one, as between the end of a step and the start of
 * another.
 */
export function isNextToAnother(effect: string): boolean {
  return effect.startsWith("journal: ") && effect.endsWith(" done");
}

async function contendIn(
  story: CrashStory,
  machine: FakeMachine,
  at: number,
  { act, promised }: Contender,
): Promise<void> {
  const life = new Life();
  const daemon = await new FakeDaemon(machine, { ...story.options, life }).begin();
  await story.before(daemon);
  const reached = Promise.withResolvers<true>();
  life.watchEffects((_effect, index) => {
    if (index === at) reached.resolve(true);
    return false;
  });
  const first = story.act(daemon);
  const both = Promise.allSettled([first, reached.promise.then(() => act(daemon))]);
  // A failure before the second action begins has another cause.
  assert.equal(await Promise.race([reached.promise, first]), true, "it comes to the effect");
  const outcomes = await both;
  for (const outcome of outcomes)
    if (outcome.status === "rejected") assert.notEqual(toHearthError(outcome.reason).code, "internal.bug");
  const [, second] = outcomes;
  if (second.status === "fulfilled") promised?.(daemon);
  else if (promised !== undefined) assert.equal(toHearthError(second.reason).code, "vm.not_found");
  assertNoSecondVmm(machine);
  await daemon.end();
}

async function failIn(story: CrashStory, machine: FakeMachine, index: number, when: When): Promise<void> {
  const life = new Life();
  const daemon = await new FakeDaemon(machine, { ...story.options, life }).begin();
  await story.before(daemon);
  life.watchEffects((effect) => {
    story.meanwhile?.(effect, machine);
    return false;
  });
  life.failAt(index, when);
  try {
    await story.act(daemon);
  } catch (error) {
    assert.ok(life.hasFailed, `it fails of nothing but the fault, and not of ${errorChain(error)}`);
  }
  // The enclosing effect has begun before the inner one was done: there is no fault before it.
  assert.ok(life.hasFailed || when === "before", "it comes to the fault");
  assertNoSecondVmm(machine);
  await daemon.end();
}

/**
 * Makes a test: hearthd dies after each of the story's `includes`, and one effect of the next hearthd's recovery fails
 * once. That one begins all the same, and the hearthd after it finds all in order.
 */
export function failRecoveryTest(promise: string, story: CrashStory): void {
  test(promise, async () => {
    const effects = await effectsOf(story);
    const broken: string[] = [];
    for (const effect of story.includes) {
      for (const when of ["before", "after"] as const) {
        for (let index = 0, count = Infinity; index < count; index++) {
          const life = new Life();
          try {
            using machine = new FakeMachine();
            await dieIn(story, machine, effects.indexOf(effect));
            await failAtBegin(story, machine, life, { index, when });
            count = Math.max(index, life.effects.length);
            await assertNextIsFine(story, machine);
          } catch (error) {
            const at = life.effects[index] ?? index;
            broken.push(`after ${effect}, and then ${when} ${at}: ${errorChain(error)}`);
            if (broken.length > 5) count = 0; // They all fail for one reason.
          }
        }
      }
    }
    assert.deepEqual(broken, []);
  });
}

async function failAtBegin(
  story: CrashStory,
  machine: FakeMachine,
  life: Life,
  { index, when }: { readonly index: number; readonly when: When },
): Promise<void> {
  const daemon = new FakeDaemon(machine, { ...story.options, life });
  life.watchEffects(() => false);
  life.failAt(index, when);
  try {
    await daemon.begin();
    assertNoSecondVmm(machine);
  } finally {
    await daemon.end();
  }
}

export async function effectsOf(story: CrashStory): Promise<readonly string[]> {
  using machine = new FakeMachine();
  const life = new Life();
  const daemon = await new FakeDaemon(machine, { ...story.options, life }).begin();
  await story.before(daemon);
  life.watchEffects((effect) => {
    story.meanwhile?.(effect, machine);
    return false;
  });
  await story.act(daemon);
  await daemon.end();
  return life.effects;
}

async function dieIn(story: CrashStory, machine: FakeMachine, last: number): Promise<void> {
  const life = new Life();
  const dying = await new FakeDaemon(machine, { ...story.options, life }).begin();
  await story.before(dying);
  life.watchEffects((effect, index) => {
    story.meanwhile?.(effect, machine);
    return index === last;
  });
  await untilDead(life, story.act(dying));
  assert.ok(life.isOver, "it dies");
  dying.drop();
}

/** Returns false if the effect had begun before. */
async function dieAtBegin(story: CrashStory, machine: FakeMachine, last: number): Promise<boolean> {
  const life = new Life();
  const dying = new FakeDaemon(machine, { ...story.options, life });
  life.watchEffects((_effect, index) => index === last);
  await untilDead(life, dying.begin());
  dying.drop();
  return life.isOver;
}

/** An action of a dying hearthd may wait for ever, or fail because of the death. */
async function untilDead(life: Life, work: Promise<unknown>): Promise<void> {
  const either = Promise.race([work, life.over]);
  await either.catch((error: unknown) => {
    if (!life.isOver) throw error;
  });
}

export async function assertNextIsFine(story: CrashStory, machine: FakeMachine): Promise<void> {
  const daemon = await new FakeDaemon(machine, story.options).begin();
  try {
    await assertInOrder(daemon);
    await story.after?.(daemon);
    await assertAllRun(daemon);
    await story.resumed?.(daemon);
    await assertAllGo(daemon);
  } finally {
    await daemon.end();
  }
}

/** Checks that rows, VMMs, isolation and directories agree. */
async function assertInOrder({ host }: FakeDaemon): Promise<void> {
  const { machine, store, snapshots } = host;
  assert.deepEqual(host.journals.listOpen(), [], "no flow is open");
  const vms = store.listVms();
  assert.deepEqual(
    vms.filter(({ spec }) => spec.internal !== undefined).map(({ name }) => name),
    [],
    "nothing that hearthd made for itself is left",
  );
  for (const vm of vms) assertRests(host, vm);
  const running = assertNoSecondVmm(machine);
  assert.deepEqual([...machine.isolation.uids.keys()].toSorted(), [...running].toSorted(), "uids");
  assert.deepEqual([...machine.isolation.cgroups].toSorted(), [...running].toSorted(), "cgroups");
  const rows = snapshots.list();
  assert.deepEqual(
    rows.filter(({ ready, kind }) => !ready || kind === "fork"),
    [],
    "no snapshot is left half",
  );
  const dirs = await host.files.listDirs(snapshotsDir(host.dirs));
  assert.deepEqual(dirs.toSorted(), rows.map(({ id }) => id as string).toSorted());
  for (const { kind, vmId, id } of rows) {
    if (kind !== "suspended") continue;
    const { state } = store.getVm(vmId);
    assert.ok(state.phase === "suspended" && state.snapshot === id, "a memory is there for who sleeps");
  }
}

/** @returns the ids of the VMs that have a VMM */
function assertNoSecondVmm({ vmms }: FakeMachine): ReadonlySet<string> {
  const running = new Set(vmms.running().map(({ plan }) => plan.id as string));
  assert.equal(vmms.running().length, running.size, "no VM has two VMMs");
  return running;
}

/** Checks that the VM runs, or can be made to, and that its VMM is as its row says. */
function assertRests({ machine, snapshots }: FakeDaemon["host"], { id, name, state }: VmRecord): void {
  const vmms = machine.vmms.running().filter(({ plan }) => plan.id === id);
  const { phase } = state;
  const expected = phase === "running" || phase === "paused" ? [phase] : [];
  assert.deepEqual(
    vmms.map((vmm) => vmm.phase),
    expected,
    `the VMM of ${name}, which is ${phase}`,
  );
  if (phase === "running") assert.equal(vmms[0]?.guest.frozen, false, `nothing of ${name} is held`);
  if (phase === "suspended") assert.ok(snapshots.get(state.snapshot), `the memory of ${name} is there`);
  assert.ok(phase !== "starting" && phase !== "stopping", `${name} is ${phase}`);
}

async function assertAllRun(daemon: FakeDaemon): Promise<void> {
  const { host, vms } = daemon;
  const call = vms.background();
  for (const vm of host.store.listVms()) {
    const { phase } = vm.state;
    if (phase === "paused") await vms.resume(vm.id, call);
    else if (phase !== "running") await vms.start(vm.id, call);
    await assertRuns(daemon, vm.name);
  }
  for (const { id, kind } of host.snapshots.list()) {
    if (kind !== "named") continue;
    await vms.create({ name: "copy", snapshot: id }, false, call);
    await vms.start("copy", call);
    await assertRuns(daemon, "copy");
    await vms.remove("copy", true, call);
  }
}

/** Checks that a command runs in the VM, and that its guest identity is right. */
export async function assertRuns({ host, vms }: FakeDaemon, name: string): Promise<void> {
  const { guest } = await vms.guest(name, "exec", new AbortController().signal);
  const command = { argv: ["true"], env: {}, stdin: false, detach: false };
  const events = await Array.fromAsync(guest.exec(command, { id: "t" }, new AbortController().signal));
  assert.equal(events.at(-1)?.type, "exited");
  const { guest: state, phase } = host.machine.vmm(name);
  assert.deepEqual([phase, state.frozen, state.hostname], ["running", false, name]);
}

async function assertAllGo(daemon: FakeDaemon): Promise<void> {
  const { host, vms, snapshots, templates } = daemon;
  for (const { id } of host.store.listVms()) await vms.remove(id, true, vms.background());
  await templates.idle();
  await templates.prune();
  for (const { id } of host.snapshots.list()) await snapshots.remove(id);
  assert.deepEqual(host.machine.leftovers(), [], "all that was there can be removed");
}
