import assert from "node:assert/strict";
import { test } from "node:test";
import { backOffMs, restarts } from "#model/restart-policy.ts";
import type { VmState } from "#model/vm-state.ts";

const FAILED: VmState = { phase: "failed", code: "vm.gone", message: "It died.", atMs: 1 };
const OFF: VmState = { phase: "stopped", exit: { reason: "guest", atMs: 1 } };
const SUSPENDED = { phase: "suspended", snapshot: "snap-x", sinceMs: 1 } as unknown as VmState;

test("no VM is started again without a policy, on-failure is for what died, always for a power-off, too", () => {
  for (const state of [FAILED, OFF])
    assert.deepEqual([restarts(undefined, state), restarts("no", state)], [false, false]);
  assert.deepEqual([restarts("on-failure", FAILED), restarts("on-failure", OFF)], [true, false]);
  assert.deepEqual([restarts("always", FAILED), restarts("always", OFF)], [true, true]);
});

test("a VM that was never started, or sleeps, is not started by its policy", () => {
  assert.equal(restarts("always", { phase: "created" }), false);
  assert.equal(restarts("always", SUSPENDED), false);
});

test("each restart comes after twice the time of the one before, within a second and a minute", () => {
  assert.deepEqual([0, 1, 2, 5, 6, 1_000_000].map(backOffMs), [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
});
