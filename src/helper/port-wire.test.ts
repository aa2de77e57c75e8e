/** Compares every verb of the privileged port through a real socket with the same verb in one process. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import type { HearthError } from "#base/error.ts";
import { VM_NAMES } from "#base/file-names.ts";
import { WIRE_VERBS } from "#helper/port-wire.ts";
import type { VerbName } from "#helper/port-wire.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";
import { endProcess } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import { INTERNET } from "#model/network-policy.ts";
import { HelperPlace, shell, SLEEP, VM } from "#testing/helper-place.ts";
import { serveClient } from "#testing/port-pair.ts";

const isRoot = process.geteuid?.() === 0;
const { signal: never } = new AbortController();
const SNAPSHOT = "sn-aaaaaaaaaaaa";
const LIMITS = { cpus: 1, memoryBytes: 2 ** 28, tasks: 100 };

/** Calls of each verb in a `HelperPlace`, in an order in which all succeed. */
const CALLS: Readonly<Record<VerbName, (port: PrivilegedPort, place: HelperPlace) => Promise<unknown>>> = {
  limitations: (port) => port.limitations(),
  leaseUid: (port) => port.leaseUid(VM),
  uidOf: (port) => port.uidOf(VM),
  listLeases: (port) => port.listLeases(),
  giveFiles: (port) => port.giveFiles(VM),
  giveVolume: (port) => port.giveVolume(VM, "data"),
  giveMemoryCopy: (port) => port.giveMemoryCopy(VM),
  giveMemoryBase: (port) => port.giveMemoryBase(VM),
  sealRunDir: (port) => port.sealRunDir(VM),
  makeCgroup: (port) => port.makeCgroup(VM, LIMITS),
  cgroupOf: (port) => port.cgroupOf(VM),
  listCgroups: (port) => port.listCgroups(),
  makeNetwork: (port) => port.makeNetwork(VM, { mac: "no address", policy: INTERNET }, never),
  setNetworkPolicy: (port) => port.setNetworkPolicy(VM, { policy: INTERNET }, never),
  setNetworkLimit: (port) => port.setNetworkLimit(VM, {}, never),
  readNetworkRules: (port) => port.readNetworkRules(VM, "rules", never),
  listNetworks: (port) => port.listNetworks(),
  removeNetwork: (port) => port.removeNetwork(VM, never),
  launchVmm: async (port, place) => {
    await place.helper().giveFiles(VM); // The run directory is the VMM's working directory.
    const { process: vmm, launcher, exit } = await port.launchVmm(VM, SLEEP, never);
    assert.ok(vmm && isAlive(vmm) && launcher === undefined);
    await endProcess(vmm, 0, never);
    return exit;
  },
  endVmm: async (port, place) => {
    const { process: vmm } = await place.helper().launchVmm(VM, SLEEP, never);
    assert.ok(vmm);
    return port.endVmm(VM, vmm, 0, never);
  },
  findIsolationFaults: (port) =>
    port.findIsolationFaults(VM, { pid: 1, startTicks: 1, hostBootId: "x" }, { seccomp: true }),
  takeVolume: (port) => port.takeVolume(VM, "data"),
  takeFiles: (port) => port.takeFiles(VM),
  sealMemory: (port) => port.sealMemory(SNAPSHOT),
  runTool: (port) => port.runTool(shell("printf 'one\\0\\377two'"), never),
  removeCgroup: (port) => port.removeCgroup("vm-bbbbbbbbbbbb", never),
  listJails: (port) => port.listJails(),
  removeJail: (port) => port.removeJail(VM),
  releaseUid: (port) => port.releaseUid(VM, never),
};

/** Makes a place in which every verb can succeed. */
function fullPlace(): HelperPlace {
  const place = new HelperPlace();
  const memory = join(place.roots.snapshots, SNAPSHOT, "memory");
  mkdirSync(dirname(memory), { recursive: true });
  writeFileSync(memory, "");
  for (const name of [VM_NAMES.memoryCopy, VM_NAMES.memoryBaseCopy])
    writeFileSync(join(place.roots.vms, VM, name), "");
  return place;
}

/** Returns the result or the error code and message of a call, without the parts that differ between places. */
async function outcome(place: HelperPlace, call: Promise<unknown>): Promise<unknown> {
  const told = await call.catch(({ code, message, hint }: HearthError) => ({ code, message, hint }));
  return JSON.parse(JSON.stringify({ told }).replaceAll(place.dir, "PLACE")) as unknown;
}

/** Returns the owners and modes of all files. */
function owners(place: HelperPlace): string[] {
  return place.snapshot().map((line) => line.split(" ").slice(0, 4).join(" "));
}

test(
  "every verb gives the same through the helper as in one process, and does the same",
  { skip: !isRoot },
  async (t) => {
    using near = fullPlace();
    using far = fullPlace();
    const { client, troubles } = await serveClient(t, far.helper());
    const direct = near.helper();
    for (const [name, call] of Object.entries(CALLS)) {
      const expected = await outcome(near, call(direct, near));
      assert.deepEqual(await outcome(far, call(client, far)), expected, name);
      assert.deepEqual(owners(far), owners(near), name);
    }
    assert.deepEqual(troubles, []);
  },
);

test("the calls above cover all verbs", () => {
  assert.deepEqual(Object.keys(CALLS).toSorted(), Object.keys(WIRE_VERBS).toSorted());
});
