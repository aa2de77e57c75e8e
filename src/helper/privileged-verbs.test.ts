import assert from "node:assert/strict";
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { PrivilegedVerbs } from "#helper/privileged-verbs.ts";
import { findProcess, listUids } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";

const VM = "vm-aaaaaaaaaaaa";
const UIDS = { first: 1_980_000_000, count: 100 };
const LIMITS = { cpus: 1, memoryBytes: 2 ** 28, tasks: 100 };
const never = new AbortController().signal;
const isRoot = process.geteuid?.() === 0;

/** Roots with one VM in them, a cgroup tree of plain files, and a folder that is none of the helper's business. */
class Place implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "hearth-helper-"));
  readonly outside = join(this.folder, "outside");
  readonly volume = join(this.folder, "volumes", "data", "volume.raw");
  readonly roots = {
    volumes: join(this.folder, "volumes"),
    snapshots: join(this.folder, "snapshots"),
    vms: join(this.folder, "vms"),
    runs: join(this.folder, "runs"),
    jails: join(this.folder, "jails"),
    leases: join(this.folder, "uids"),
    cgroups: join(this.folder, "cgroups"),
  };
  readonly disk = join(this.roots.vms, VM, "disk.raw");
  readonly runDir = join(this.roots.runs, VM);

  constructor() {
    for (const folder of [this.outside, this.runDir, join(this.roots.vms, VM), join(this.roots.jails, VM)])
      mkdirSync(folder, { recursive: true, mode: 0o700 });
    mkdirSync(dirname(this.volume), { recursive: true });
    writeFileSync(this.volume, "", { mode: 0o644 });
    writeFileSync(this.disk, "", { mode: 0o600 });
    writeFileSync(join(this.outside, "precious"), "", { mode: 0o600 });
    for (const group of ["", "hearth", `hearth/${VM}`]) {
      mkdirSync(join(this.roots.cgroups, group), { recursive: true });
      writeFileSync(join(this.roots.cgroups, group, "cgroup.controllers"), "cpu memory pids");
      for (const name of ["cgroup.subtree_control", "cgroup.procs", "cpu.max", "memory.max", "pids.max"])
        writeFileSync(join(this.roots.cgroups, group, name), "");
    }
  }
  helper(isRootUser = true): PrivilegedVerbs {
    return new PrivilegedVerbs({ roots: this.roots, uids: UIDS, isRoot: isRootUser });
  }
  /** All names below with owner, mode, size and time: what a side effect would change. */
  snapshot(): string[] {
    return readdirSync(this.folder, { recursive: true, encoding: "utf8" })
      .map((name) => {
        const { uid, gid, mode, size, mtimeMs } = lstatSync(join(this.folder, name));
        return [name, uid, gid, mode.toString(8), size, mtimeMs].join(" ");
      })
      .toSorted();
  }
  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

type Verb = (helper: PrivilegedVerbs, vm: string) => unknown;
const VERBS: Readonly<Record<string, Verb>> = {
  leaseUid: (helper, vm) => helper.leaseUid(vm),
  uidOf: (helper, vm) => helper.uidOf(vm),
  releaseUid: (helper, vm) => helper.releaseUid(vm, never),
  leaseToolUid: (helper, vm) => helper.leaseToolUid(vm),
  releaseToolUid: (helper, vm) => helper.releaseToolUid(vm, never),
  giveFiles: (helper, vm) => helper.giveFiles(vm),
  giveVolume: (helper, vm) => helper.giveVolume(vm, "data"),
  takeVolume: (helper, vm) => helper.takeVolume(vm, "data"),
  sealRunFolder: (helper, vm) => helper.sealRunFolder(vm),
  takeFiles: (helper, vm) => helper.takeFiles(vm),
  sealMemory: (helper, vm) => helper.sealMemory(vm),
  makeCgroup: (helper, vm) => helper.makeCgroup(vm, LIMITS),
  cgroupOf: (helper, vm) => helper.cgroupOf(vm),
  joinCgroup: (helper, vm) => helper.joinCgroup(vm, findProcess(process.pid) as never),
  removeCgroup: (helper, vm) => helper.removeCgroup(vm, never),
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

test("the fuzz below covers every verb there is", () => {
  const all = Object.getOwnPropertyNames(PrivilegedVerbs.prototype).filter((name) => name !== "constructor");
  const ofVms = all.filter((name) => !/^(list|limitations)/.test(name)); // These take nothing.
  assert.deepEqual(ofVms.toSorted(), Object.keys(VERBS).toSorted());
});

for (const [name, verb] of Object.entries(VERBS)) {
  test(`L8: ${name} refuses every id that is none, and changes nothing`, async () => {
    using place = new Place();
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
    using place = new Place();
    const helper = place.helper();
    const uid = await helper.leaseUid(VM);
    assert.ok(uid);
    await helper.giveFiles(VM);
    assert.deepEqual([statSync(place.disk).uid, statSync(place.runDir).uid], [uid, uid]);
    assert.equal(statSync(join(place.roots.vms, VM)).uid, 0);
    await helper.sealRunFolder(VM);
    assert.deepEqual([statSync(place.runDir).uid, statSync(place.runDir).mode & 0o777], [0, 0o711]);
    await helper.takeFiles(VM);
    assert.equal(statSync(place.disk).uid, 0);
    await helper.releaseUid(VM, never);
    assert.equal(await helper.uidOf(VM), undefined);
  });

  const TAMPERED: Readonly<Record<string, (place: Place) => void>> = {
    "a disk that is a link": (place) => symlinkSync(join(place.outside, "precious"), remove(place.disk)),
    "a disk with a second name": (place) => linkSync(join(place.outside, "precious"), remove(place.disk)),
    "a disk that is a folder": (place) => mkdirSync(remove(place.disk)),
    "a run folder that is a link": (place) => symlinkSync(place.outside, remove(place.runDir)),
    "a state folder that is a link": (place) => {
      symlinkSync(place.outside, remove(join(place.roots.vms, VM)));
      writeFileSync(join(place.outside, "disk.raw"), "");
    },
  };
  for (const [what, tamper] of Object.entries(TAMPERED)) {
    test(`VS-018: ${what} is refused, with a lease and without, and nothing changes owner`, async () => {
      using place = new Place();
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
  using place = new Place();
  const helper = place.helper();
  const uid = await helper.leaseUid(VM);
  assert.ok(uid);
  const ended = Promise.withResolvers<NodeJS.Signals | null>();
  await startDetached("setpriv", ["--reuid", String(uid), "--clear-groups", "sleep", "1000"], {
    cwd: "/",
    logFile: join(place.folder, "log"),
    onExit: (_, signal) => ended.resolve(signal),
  });
  while (!listUids().has(uid)) await new Promise(setImmediate); // Until setpriv has changed the uid.
  await helper.releaseUid(VM, never);
  assert.equal(await ended.promise, "SIGKILL");
  assert.equal(await helper.uidOf(VM), undefined);
});

test("a tool has a uid of its own for one run, and no VM has it meanwhile", { skip: !isRoot }, async () => {
  using place = new Place();
  const helper = place.helper();
  const [run, other] = ["vm-cccccccccccc", "vm-dddddddddddd"];
  const uids = [await helper.leaseUid(VM), await helper.leaseToolUid(run), await helper.leaseToolUid(other)];
  assert.equal(new Set(uids).size, 3);
  assert.deepEqual(await helper.listLeases(), [VM], "a tool's is no VM's");
  for (const id of [run, run, other]) await helper.releaseToolUid(id, never);
  assert.deepEqual(readdirSync(place.roots.runs), [VM]);
  assert.equal(await helper.leaseToolUid("vm-eeeeeeeeeeee"), uids[1]);
});

describe("a volume that a VM may write", { skip: !isRoot }, () => {
  const OTHER = "vm-bbbbbbbbbbbb";

  test("belongs to its uid from giving to taking, and never to two VMs", async () => {
    using place = new Place();
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

  test("L8: is a name by the rule, and no link", async () => {
    using place = new Place();
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

test("a guest memory file is sealed for all to read and nobody to write; one that is a link is refused", async () => {
  using place = new Place();
  const helper = place.helper();
  const folder = join(place.roots.snapshots, "sn-aaaaaaaaaaaa");
  const memory = join(folder, "memory");
  mkdirSync(folder, { recursive: true });
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

function remove(path: string): string {
  rmSync(path, { recursive: true });
  return path;
}

test("VS-018: a jail that is a link is removed, and what it points to stays", async () => {
  using place = new Place();
  const jail = join(place.roots.jails, VM);
  symlinkSync(place.outside, remove(jail));
  await place.helper().removeJail(VM);
  assert.deepEqual(readdirSync(place.roots.jails), []);
  assert.deepEqual(readdirSync(place.outside), ["precious"]);
});

test("VS-059: removing one VM's jail leaves the others'", async () => {
  using place = new Place();
  mkdirSync(join(place.roots.jails, "vm-bbbbbbbbbbbb"));
  await place.helper().removeJail(VM);
  await place.helper().removeJail(VM);
  assert.deepEqual(readdirSync(place.roots.jails), ["vm-bbbbbbbbbbbb"]);
});

describe("a VM's cgroup", () => {
  test("takes a process that has the VM's id on its command line, and no other", async () => {
    using place = new Place();
    const helper = place.helper();
    assert.equal(await helper.makeCgroup(VM, LIMITS), join(place.roots.cgroups, "hearth", VM));
    const before = place.snapshot();
    const self = findProcess(process.pid);
    const init = findProcess(1);
    assert.ok(self && init);
    for (const foreign of [self, init, { ...self, startTicks: 1 }, { ...self, pid: 2 ** 30 }])
      await assert.rejects(helper.joinCgroup(VM, foreign), { code: "input.invalid" });
    assert.deepEqual(place.snapshot(), before);
  });

  test("takes no limit that a VM cannot have", async () => {
    using place = new Place();
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

test("who is not root changes nothing, and says what is missing", async () => {
  using place = new Place();
  if (isRoot) await place.helper().leaseUid(VM); // A root hearthd's: not ours to see.
  const helper = place.helper(false);
  const before = place.snapshot();
  const limitations = await helper.limitations();
  assert.match(limitations.uid ?? "", /not run as root/);
  assert.match(limitations.cgroup ?? "", /not run as root/);
  assert.equal(await helper.leaseUid(VM), undefined);
  assert.equal(await helper.uidOf(VM), undefined);
  await helper.giveFiles(VM);
  await helper.sealRunFolder(VM);
  await helper.takeFiles(VM);
  await helper.releaseUid(VM, never);
  assert.equal(await helper.makeCgroup(VM, LIMITS), undefined);
  await helper.removeCgroup(VM, never);
  assert.deepEqual([...(await helper.listLeases()), ...(await helper.listCgroups())], []);
  assert.deepEqual(place.snapshot(), before);
});
