import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import type { ChildExit } from "#jail/vmm-launch.ts";
import { StartingVmm } from "#drivers/starting-vmm.ts";
import { findProcess } from "#host/procfs.ts";

const never = new AbortController().signal;
const REFUSED = new HearthError("input.invalid", "There is no such disk.");

/** Starts a VMM whose process is this test's: it stays alive, whatever `exit` says. */
function start(stderrTail = "") {
  const { promise: exit, resolve: ends } = Promise.withResolvers<ChildExit>();
  const inForce = {
    jail: false,
    pidNamespace: false,
    network: { kind: "host" } as const,
    seccomp: true,
    gaps: [],
  };
  const launched = {
    process: findProcess(process.pid),
    launcher: undefined,
    exit,
    inForce,
    findFaults: async () => [],
    end: async () => {},
  };
  return { starting: new StartingVmm("Hearthfire", launched, () => stderrTail), ends };
}

for (const [how, exit, words] of [
  ["a code", { code: 3, signal: null }, /^Hearthfire exited with code 3 before the VM ran/],
  ["a signal", { code: null, signal: "SIGSEGV" }, /^Hearthfire was killed by SIGSEGV/],
  ["a lost launcher", { code: null, signal: null }, /^Hearthfire lost its launcher/],
] as const) {
  test(`an end with ${how} is reported with the stderr tail`, async () => {
    const { starting, ends } = start("out of luck");
    assert.equal(starting.ended, undefined);
    ends(exit);
    const reason = await starting.hasEnded;
    assert.match(reason.message, words);
    assert.equal((reason.cause as Error).message, "out of luck");
    assert.equal(starting.ended, reason);
  });
}

test("the error of a VMM that stays alive is passed on unchanged", async () => {
  const { starting } = start();
  await assert.rejects(starting.guard(Promise.reject(REFUSED), never), REFUSED);
});

test("the reason of a VMM's end replaces the error about its closed socket", async () => {
  const { starting, ends } = start();
  const guarded = starting.guard(Promise.reject(new HearthError("vmm.failed", "Closed.")), never);
  ends({ code: 1, signal: null });
  await assert.rejects(guarded, /exited with code 1/);
});

test("a cancelled boot fails with the cancellation, even if the VMM has ended meanwhile", async () => {
  const { starting, ends } = start();
  ends({ code: 1, signal: null });
  await starting.hasEnded;
  const cancelled = AbortSignal.abort(new Error("not wanted"));
  await assert.rejects(starting.guard(Promise.reject(cancelled.reason), cancelled), /not wanted/);
});
