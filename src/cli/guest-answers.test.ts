import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import { guestAnswers } from "#cli/guest-answers.ts";
import type { AskedVm } from "#cli/guest-answers.ts";

/** Fakes a VM with these phases, one after the other, whose guest returns the file or this error. */
function vmOf(phases: readonly (string | ErrorCode)[], reading?: ErrorCode): AskedVm {
  const left = [...phases];
  return {
    show: async () => {
      const phase = left.shift() ?? "";
      if (phase.includes(".")) throw new HearthError(phase as ErrorCode, "It cannot be shown.");
      return { phase };
    },
    readTar: async () => {
      if (reading !== undefined) throw new HearthError(reading, "It cannot be read.");
      return Readable.from([]);
    },
  } as unknown as AskedVm;
}

const cases: readonly (readonly [what: string, vm: AskedVm, answers: boolean])[] = [
  ["a guest that gives a file", vmOf(["running"]), true],
  ["a guest that has no such file", vmOf(["running"], "file.not_found"), true],
  ["a guest that never answers", vmOf(Array<string>(1_000).fill("running"), "agent.unreachable"), false],
  ["a VM that is paused", vmOf(["paused"]), false],
  ["a VM that is suspended", vmOf(["suspended"]), false],
  ["a VM that is paused while it is asked", vmOf(["running", "paused"], "agent.unreachable"), false],
  ["a VM that ends after its command", vmOf(["stopping"]), true],
  ["a VM that went with its command", vmOf(["vm.not_found"]), true],
  ["a VM that begins to end while it is asked", vmOf(["running", "stopping"], "agent.unreachable"), true],
  ["a VM that goes while it is asked", vmOf(["running", "vm.not_found"], "vm.gone"), true],
  [
    "a VM that is shown as running for a while after its agent has gone",
    vmOf(["running", "running", "running", "vm.not_found"], "agent.unreachable"),
    true,
  ],
  ["a hearthd that does not answer", vmOf(["daemon.unreachable"]), false],
];
for (const [what, vm, answers] of cases) {
  test(`a command in ${what} is ${answers ? "" : "not "}waited for`, async () => {
    assert.equal(await guestAnswers(vm, AbortSignal.timeout(1_000)), answers);
  });
}
