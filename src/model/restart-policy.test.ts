import assert from "node:assert/strict";
import { test } from "node:test";
import { backOffMs, restarts } from "#model/restart-policy.ts";
import type { Restarted, RestartPolicy } from "#model/restart-policy.ts";
import type { VmState } from "#model/vm-state.ts";

const FAILED: VmState = { phase: "failed", code: "vm.gone", message: "It died.", atMs: 1 };
const OFF: VmState = { phase: "stopped", exit: { reason: "guest", atMs: 1 } };
const SUSPENDED = { phase: "suspended", snapshot: "snap-x", sinceMs: 1 } as unknown as VmState;

const REBOOTED: VmState = { phase: "stopped", exit: { reason: "rebooted", atMs: 1 } };

function isStarted(
  policy: RestartPolicy | undefined,
  state: VmState,
  more: Partial<Restarted> = {},
): boolean {
  return restarts({ state, ephemeral: false, spec: { restart: policy, autoRemove: false }, ...more });
}

test("no policy starts no VM again, on-failure those that died, always also those that powered off", () => {
  for (const state of [FAILED, OFF])
    assert.deepEqual([isStarted(undefined, state), isStarted("no", state)], [false, false]);
  assert.deepEqual([isStarted("on-failure", FAILED), isStarted("on-failure", OFF)], [true, false]);
  assert.deepEqual([isStarted("always", FAILED), isStarted("always", OFF)], [true, true]);
});

test("a VM that was never started or is suspended is not started by its policy", () => {
  assert.equal(isStarted("always", { phase: "created" }), false);
  assert.equal(isStarted("always", SUSPENDED), false);
});

test("a VM whose guest rebooted is started again, whatever its policy is", () => {
  for (const policy of [undefined, "no", "on-failure", "always"] as const)
    assert.equal(isStarted(policy, REBOOTED), true, policy);
});

test("a VM that ends with a command, with its lifetime or by auto-remove is not started again after a reboot", () => {
  assert.equal(isStarted("no", REBOOTED, { ephemeral: true }), false);
  const spec = { restart: "no", autoRemove: false } as const;
  assert.equal(isStarted("no", REBOOTED, { spec: { ...spec, autoRemove: true } }), false);
  assert.equal(isStarted("no", REBOOTED, { spec: { ...spec, lifetimeMs: 1 } }), false);
  const always = { spec: { ...spec, restart: "always", lifetimeMs: 1 } } as const;
  assert.equal(isStarted("always", REBOOTED, always), true, "the policy was asked for");
});

test("each restart comes after twice the time of the one before, within a second and a minute", () => {
  assert.deepEqual([0, 1, 2, 5, 6, 1_000_000].map(backOffMs), [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]);
});
