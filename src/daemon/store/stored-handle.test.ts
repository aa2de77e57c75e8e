import assert from "node:assert/strict";
import { test } from "node:test";
import { readStoredState } from "#daemon/store/stored-handle.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";

/** Returns the handle of a running VM, after its state was stored with these fields in the handle, and read again. */
function readWith(stored: object): VmHandle | undefined {
  const handle = {
    driver: "qemu",
    accel: "tcg",
    stateDir: "/state",
    agentSocket: "/run/a",
    monitorSocket: "/run/m",
    consoleSocket: "/run/c",
    ...stored,
  };
  const state = { phase: "running", startedAtMs: 1, handle } as unknown as VmState;
  return handleOf(readStoredState(state));
}

const VMM = { pid: 4711, startTicks: 1, hostBootId: "x" };
const HELPER = { ...VMM, pid: 4712 };

test("the handle of an older hearthd names its one process, and has no disks that could be told apart", () => {
  const handle = readWith({ process: VMM });
  assert.deepEqual(handle?.processes, [VMM]);
  assert.deepEqual([handle?.disks, handle?.diskSerials], [undefined, undefined]);
  assert.equal(handle !== undefined && "process" in handle, false);
});

for (const [networkNamespace, kind] of [
  [true, "own"],
  [false, "host"],
] as const) {
  test(`a VMM whose network namespace was ${networkNamespace ? "its own" : "the host's"} is in force as that`, () => {
    const isolation = { jail: true, pidNamespace: true, networkNamespace, seccomp: true, gaps: [] };
    assert.deepEqual(readWith({ process: VMM, isolation })?.isolation?.network, { kind });
  });
}

test("a handle of today is read as it was written", () => {
  const network = { kind: "join", path: "/run/netns/web" };
  const isolation = { jail: true, pidNamespace: true, network, seccomp: true, gaps: [] };
  const handle = readWith({ processes: [VMM, HELPER], isolation, disks: ["own"] });
  assert.deepEqual(handle?.processes, [VMM, HELPER]);
  assert.deepEqual(handle?.isolation, isolation);
  assert.deepEqual(handle?.disks, ["own"]);
});

test("a handle that names no process is damaged", () => {
  assert.throws(() => readWith({}), /names no process/);
});
