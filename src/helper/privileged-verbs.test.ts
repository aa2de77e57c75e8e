import assert from "node:assert/strict";
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { VM_NAMES } from "#base/file-names.ts";
import { PrivilegedVerbs } from "#helper/privileged-verbs.ts";
import { listUids } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";
import { INTERNET } from "#model/network-policy.ts";
import { HelperPlace, SLEEP, VM } from "#testing/helper-place.ts";

const LIMITS = { cpus: 1, memoryBytes: 2 ** 28, tasks: 100 };
const never = new AbortController().signal;
const isRoot = process.geteuid?.() === 0;

type Verb = (helper: PrivilegedVerbs, vm: string) => unknown;
const VERBS: Readonly<Record<string, Verb>> = {
  leaseUid: (helper, vm) => helper.leaseUid(vm),
  uidOf: (helper, vm) => helper.uidOf(vm),
  releaseUid: (helper, vm) => helper.releaseUid(vm, never),
  giveFiles: (helper, vm) => helper.giveFiles(vm),
  giveVolume: (helper, vm) => helper.giveVolume(vm, "data"),
  takeVolume: (helper, vm) => helper.takeVolume(vm, "data"),
  sealRunDir: (helper, vm) => helper.sealRunDir(vm),
  takeFiles: (helper, vm) => helper.takeFiles(vm),
  sealMemory: (helper, vm) => helper.sealMemory(vm),
  makeCgroup: (helper, vm) => helper.makeCgroup(vm, LIMITS),
  cgroupOf: (helper, vm) => helper.cgroupOf(vm),
  endVmm: (helper, vm) => helper.endVmm(vm, { pid: 1, startTicks: 1, hostBootId: "" }, 0, never),
  findIsolationFaults: (helper, vm) =>
    helper.findIsolationFaults(vm, { pid: 1, startTicks: 1, hostBootId: "" }, { seccomp: false }),
  launchVmm: (helper, vm) => helper.launchVmm(vm, SLEEP, never),
  giveMemoryCopy: (helper, vm) => helper.giveMemoryCopy(vm),
  giveMemoryBase: (helper, vm) => helper.giveMemoryBase(vm),
  removeCgroup: (helper, vm) => helper.removeCgroup(vm, never),
  makeNetwork: (helper, vm) => helper.makeNetwork(vm, { mac: "02:00:00:00:00:0a", policy: INTERNET }, never),
  setNetworkPolicy: (helper, vm) => helper.setNetworkPolicy(vm, { policy: INTERNET }, never),
  setNetworkLimit: (helper, vm) => helper.setNetworkLimit(vm, {}, never),
  readNetworkRules: (helper, vm) => helper.readNetworkRules(vm, "rules", never),
  removeNetwork: (helper, vm) => helper.removeNetwork(vm, never),
  removeJail: (helper, vm) => helper.removeJail(vm),
};

const FOREIGN: unknown[] = [
  "",
  "/",
  "/etc",
  "..",
  "../outside",
  `${VM}/..`,
  `${VM}/../../outside`,
  `./${VM}`,
  `${VM}\0`,
  `${VM}\n`,
  "vm-",
  "vm-AAAAAAAAAAAA",
  "vm-aaaaaaaaaaa/",
  "vm-aaaaaaaaaaaaa",
  "*",
  "x".repeat(65_536),
  undefined,
  null,
  0,
  {},
  ["vm-aaaaaaaaaaaa", "x"],
  { toString: () => "../outside" },
];

test("the fuzz below covers every verb", () => {
  const all = Object.getOwnPropertyNames(PrivilegedVerbs.prototype).filter((name) => name !== "constructor");
  const ofVms = all.filter((name) => !/^(list|limitations|runTool)/.test(name)); // These take none.
  assert.deepEqual(ofVms.toSorted(), Object.keys(VERBS).toSorted());
});

for (const [name, verb] of Object.entries(VERBS)) {
  test(`${name} refuses every invalid id, and changes nothing`, async () => {
    using place = new HelperPlace();
    const helper = place.helper();
    const before = place.snapshot();
    for (const vm of FOREIGN) {
      await assert.rejects(
        async () => verb(helper, vm as string),
        { code: "input.invalid" },
        JSON.stringify(vm),
      );
    }
    assert.deepEqual(place.snapshot(), before);
  });
}

describe("a VM's own files", { skip: !isRoot }, () => {
  test("belong to its uid from giving to taking, and no other file does", async () => {
    using place = new HelperPlace();
    const helper = place.helper();
    const uid = await helper.leaseUid(VM);
    assert.ok(uid);
    await helper.giveFiles(VM);
    assert.deepEqual([statSync(place.disk).uid, statSync(place.runDir).uid], [uid, uid]);
    assert.equal(statSync(join(place.roots.vms, VM)).uid, 0);
    await helper.sealRunDir(VM);
    assert.deepEqual([statSync(place.runDir).uid, statSync(place.runDir).mode & 0o777], [0, 0o710]);
    await helper.takeFiles(VM);
    assert.equal(statSync(place.disk).uid, 0);
    await helper.releaseUid(VM, never);
    assert.equal(await helper.uidOf(VM), undefined);
  });

  const TAMPERED: Readonly<Record<string, (place: HelperPlace) => void>> = {
    "a disk that is a link": (place) => symlinkSync(join(place.outside, "precious"), remove(place.disk)),
    "a disk with a second name": (place) => linkSync(join(place.outside, "precious"), remove(place.disk)),
    "a disk that is a directory": (place) => mkdirSync(remove(place.disk)),
    "a run directory that is a link": (place) => symlinkSync(place.outside, remove(place.runDir)),
    "a state directory that is a link": (place) => {
      symlinkSync(place.outside, remove(join(place.roots.vms, VM)));
      writeFileSync(join(place.outside, "disk.raw"), "");
    },
  };
  for (const [what, tamper] of Object.entries(TAMPERED)) {
    test(`${what} is refused, with a lease and without, and nothing changes owner`, async () => {
      using place = new HelperPlace();
      const helper = place.helper();
      tamper(place);
      const before = place.snapshot();
      await assert.rejects(helper.giveFiles(VM), { code: "path.unmanaged" });
      assert.deepEqual(place.snapshot(), before);
      await helper.leaseUid(VM);
      await assert.rejects(helper.giveFiles(VM), { code: "path.unmanaged" });
      assert.equal(statSync(join(place.outside, "precious")).uid, 0);
      assert.equal(statSync(place.outside).uid, 0);
      const given = place.snapshot();
      await helper.takeFiles(VM);
      assert.deepEqual(place.snapshot(), given, "taking back changes nothing either, and does not fail");
    });
  }
});

test("releasing a uid first ends a process that the VMM left behind with it", { skip: !isRoot }, async () => {
  using place = new HelperPlace();
  const helper = place.helper();
  const uid = await helper.leaseUid(VM);
  assert.ok(uid);
  const ended = Promise.withResolvers<NodeJS.Signals | null>();
  await startDetached("setpriv", ["--reuid", String(uid), "--clear-groups", "sleep", "1000"], {
    cwd: "/",
    logFile: join(place.dir, "log"),
    onExit: (_, signal) => ended.resolve(signal),
  });
  while (!listUids().has(uid)) await new Promise(setImmediate); // Until setpriv has changed the uid.
  await helper.releaseUid(VM, never);
  assert.equal(await ended.promise, "SIGKILL");
  assert.equal(await helper.uidOf(VM), undefined);
});

describe("a volume that a VM may write", { skip: !isRoot }, () => {
  const OTHER = "vm-bbbbbbbbbbbb";

  test("belongs to its uid from giving to taking, and never to two VMs", async () => {
    using place = new HelperPlace();
    mkdirSync(join(place.roots.vms, OTHER));
    const helper = place.helper();
    const uid = await helper.leaseUid(VM);
    await helper.leaseUid(OTHER);
    await helper.giveVolume(VM, "data");
    assert.equal(statSync(place.volume).uid, uid);
    await assert.rejects(helper.giveVolume(OTHER, "data"), { code: "path.unmanaged" });
    await helper.takeVolume(OTHER, "data");
    assert.equal(statSync(place.volume).uid, uid, "who does not have it cannot give it back");
    await helper.takeVolume(VM, "data");
    assert.equal(statSync(place.volume).uid, 0);
    await helper.giveVolume(OTHER, "data");
  });

  test("is a name by the rule, and no link", async () => {
    using place = new HelperPlace();
    const helper = place.helper();
    await helper.leaseUid(VM);
    const before = place.snapshot();
    for (const name of ["", "..", "../outside", "a/b", "/etc", "data\0", "DATA", "x".repeat(64)]) {
      await assert.rejects(helper.giveVolume(VM, name), { code: "input.invalid" }, name);
      await assert.rejects(helper.takeVolume(VM, name), { code: "input.invalid" }, name);
    }
    assert.deepEqual(place.snapshot(), before);
    symlinkSync(join(place.outside, "precious"), remove(place.volume));
    await assert.rejects(helper.giveVolume(VM, "data"), { code: "path.unmanaged" });
    assert.equal(statSync(join(place.outside, "precious")).uid, 0);
  });
});

test("without root, a volume is checked, and no leases of a hearthd with root are read", async () => {
  using place = new HelperPlace();
  // Stands for a lease that only root may read.
  mkdirSync(join(place.roots.leases, "1980000000"), { recursive: true });
  const helper = place.helper(false);
  await helper.giveVolume(VM, "data");
  symlinkSync(join(place.outside, "precious"), remove(place.volume));
  await assert.rejects(helper.giveVolume(VM, "data"), { code: "path.unmanaged" });
});

test("a guest memory file is sealed: all may read it and none may write it; a link is refused", async () => {
  using place = new HelperPlace();
  const helper = place.helper();
  const dir = join(place.roots.snapshots, "sn-aaaaaaaaaaaa");
  const memory = join(dir, "memory");
  mkdirSync(dir, { recursive: true });
  writeFileSync(memory, "", { mode: 0o600 });
  for (const mode of [0o600, 0o666]) {
    chmodSync(memory, mode);
    await helper.sealMemory("sn-aaaaaaaaaaaa");
    assert.equal(statSync(memory).mode & 0o777, 0o444);
  }
  symlinkSync(join(place.outside, "precious"), remove(memory));
  await assert.rejects(helper.sealMemory("sn-aaaaaaaaaaaa"), { code: "path.unmanaged" });
  assert.equal(statSync(join(place.outside, "precious")).mode & 0o777, 0o600);
});

test("a guest memory file is sealed by a process whose gid is not its uid", { skip: !isRoot }, async () => {
  using place = new HelperPlace();
  const memory = join(place.roots.snapshots, "sn-aaaaaaaaaaaa", "memory");
  mkdirSync(dirname(memory), { recursive: true });
  writeFileSync(memory, "");
  const gid = 1_980_000_600;
  process.setegid?.(gid);
  try {
    await place.helper(false).sealMemory("sn-aaaaaaaaaaaa");
  } finally {
    process.setegid?.(0);
  }
  assert.equal(statSync(memory).gid, gid);
});

for (const [file, verb] of [
  [VM_NAMES.memoryCopy, "giveMemoryCopy"],
  [VM_NAMES.memoryBaseCopy, "giveMemoryBase"],
] as const) {
  test(`${file} is the VM's alone; one that is a link is refused`, { skip: !isRoot }, async () => {
    using place = new HelperPlace();
    const helper = place.helper();
    const uid = await helper.leaseUid(VM);
    const path = join(place.roots.vms, VM, file);
    writeFileSync(path, "", { mode: 0o644 });
    await helper[verb](VM);
    assert.deepEqual([statSync(path).uid, statSync(path).mode & 0o777], [uid, 0o600]);
    symlinkSync(join(place.outside, "precious"), remove(path));
    await assert.rejects(helper[verb](VM), { code: "path.unmanaged" });
    assert.equal(statSync(join(place.outside, "precious")).uid, 0);
  });
}

function remove(path: string): string {
  rmSync(path, { recursive: true });
  return path;
}

test("a jail that is a link is removed, and its target stays", async () => {
  using place = new HelperPlace();
  const jail = join(place.roots.jails, VM);
  symlinkSync(place.outside, remove(jail));
  await place.helper().removeJail(VM);
  assert.deepEqual(readdirSync(place.roots.jails), []);
  assert.deepEqual(readdirSync(place.outside), ["precious"]);
});

test("removing one VM's jail leaves the others'", async () => {
  using place = new HelperPlace();
  mkdirSync(join(place.roots.jails, "vm-bbbbbbbbbbbb"));
  await place.helper().removeJail(VM);
  await place.helper().removeJail(VM);
  assert.deepEqual(readdirSync(place.roots.jails), ["vm-bbbbbbbbbbbb"]);
});

describe("a VM's cgroup", () => {
  test("refuses limits that a VM cannot have", async () => {
    using place = new HelperPlace();
    const helper = place.helper();
    const before = place.snapshot();
    const values = [0, -1, 1.5, Number.NaN, Infinity, 2 ** 60, "1", undefined] as number[];
    for (const key of ["cpus", "memoryBytes", "tasks"]) {
      for (const value of values)
        await assert.rejects(helper.makeCgroup(VM, { ...LIMITS, [key]: value }), { code: "input.invalid" });
    }
    assert.deepEqual(place.snapshot(), before);
  });
});

test("without root nothing is changed, and the limitations say why", async () => {
  using place = new HelperPlace();
  if (isRoot) await place.helper().leaseUid(VM); // A lease of a root hearthd, which this one must not see.
  const helper = place.helper(false);
  const before = place.snapshot();
  const limitations = await helper.limitations();
  assert.match(limitations.uid ?? "", /not run as root/);
  assert.match(limitations.cgroup ?? "", /not run as root/);
  assert.equal(await helper.leaseUid(VM), undefined);
  assert.equal(await helper.uidOf(VM), undefined);
  await helper.giveFiles(VM);
  await helper.sealRunDir(VM);
  await helper.takeFiles(VM);
  await helper.releaseUid(VM, never);
  assert.equal(await helper.makeCgroup(VM, LIMITS), undefined);
  await helper.removeCgroup(VM, never);
  assert.deepEqual([...(await helper.listLeases()), ...(await helper.listCgroups())], []);
  assert.deepEqual(place.snapshot(), before);
});
