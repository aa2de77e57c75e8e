/** Tests the access to files of VMs, if hearthd has fewer rights than the port. */
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { VM_NAMES } from "#base/file-names.ts";
import type { PortLaunch } from "#helper/privileged-port.ts";
import { findProcess } from "#host/procfs.ts";
import { HelperPlace, SLEEP, VM } from "#testing/helper-place.ts";

const isRoot = process.geteuid?.() === 0;
const never = new AbortController().signal;
const OWNER = { uid: 1_980_000_500, gid: 1_980_000_600 };
const OTHER = "vm-bbbbbbbbbbbb";
const SNAPSHOT = "sn-aaaaaaaaaaaa";
/** A uid of no VM, and not hearthd's. */
const STRANGER = 1_980_000_700;

function ownerOf(path: string): [uid: number, gid: number, mode: number] {
  const { uid, gid, mode } = lstatSync(path);
  return [uid, gid, mode & 0o7777];
}

/** Makes a place whose files belong to hearthd, and a port that has more rights than hearthd. */
function apart() {
  const place = new HelperPlace();
  const save = join(place.roots.vms, VM, VM_NAMES.save);
  mkdirSync(save);
  const copy = join(place.roots.vms, VM, VM_NAMES.memoryCopy);
  const base = join(place.roots.vms, VM, VM_NAMES.memoryBaseCopy);
  const memory = join(place.roots.snapshots, SNAPSHOT, "memory");
  mkdirSync(dirname(memory), { recursive: true });
  for (const file of [copy, base, memory]) writeFileSync(file, "");
  const all = [place.disk, place.runDir, place.volume, save, copy, base, memory];
  place.giveTo(OWNER);
  return { place, helper: place.helper(true, { owner: OWNER }), save, copy, base, memory, all };
}

describe("with a hearthd without root", { skip: !isRoot }, () => {
  test("a VM's files are for its uid and hearthd's group, and afterwards only for hearthd", async () => {
    const { place, helper, save, copy, base } = apart();
    using _place = place;
    const uid = await helper.leaseUid(VM);
    assert.ok(uid);
    await helper.giveFiles(VM);
    for (const dir of [place.runDir, save]) assert.deepEqual(ownerOf(dir), [uid, OWNER.gid, 0o2770]);
    assert.deepEqual(ownerOf(place.disk), [uid, OWNER.gid, 0o660]);
    await helper.giveMemoryCopy(VM);
    await helper.giveMemoryBase(VM);
    for (const file of [copy, base]) assert.deepEqual(ownerOf(file), [uid, OWNER.gid, 0o660]);
    await helper.sealRunDir(VM);
    assert.deepEqual(ownerOf(place.runDir), [OWNER.uid, uid, 0o710]);
    await helper.takeFiles(VM);
    assert.deepEqual(ownerOf(place.disk), [OWNER.uid, OWNER.gid, 0o600]);
    assert.deepEqual(ownerOf(save), [OWNER.uid, OWNER.gid, 0o700]);
  });

  test("a file with the uid of a removed VM can be given, and sealed", async () => {
    const { place, helper, memory } = apart();
    using _place = place;
    const gone = await helper.leaseUid(VM);
    assert.ok(gone);
    for (const path of [place.disk, place.volume, memory]) chownSync(path, gone, gone);
    await helper.releaseUid(VM, never);
    mkdirSync(join(place.roots.vms, OTHER));
    await helper.leaseUid(OTHER); // The same uid is another VM's by now.
    const uid = await helper.leaseUid(VM);
    assert.ok(uid !== undefined && uid !== gone);
    await assert.rejects(helper.giveFiles(VM), { code: "path.unmanaged" });
    await helper.releaseUid(OTHER, never);
    await helper.giveFiles(VM);
    await helper.giveVolume(VM, "data");
    assert.deepEqual([statSync(place.disk).uid, statSync(place.volume).uid], [uid, uid]);
    await helper.sealMemory(SNAPSHOT);
    assert.deepEqual(ownerOf(memory), [OWNER.uid, OWNER.gid, 0o444]);
  });

  test("a file of another user is neither given, nor taken, nor sealed, nor read", async () => {
    const { place, helper, all } = apart();
    using _place = place;
    await helper.leaseUid(VM);
    for (const stranger of [0, STRANGER]) {
      for (const path of all) chownSync(path, stranger, 0);
      const before = place.snapshot();
      const refused = { code: "path.unmanaged", message: new RegExp(`belongs to the uid ${stranger}`) };
      for (const act of [
        () => helper.giveFiles(VM),
        () => helper.giveMemoryCopy(VM),
        () => helper.giveMemoryBase(VM),
        () => helper.giveVolume(VM, "data"),
        () => helper.sealRunDir(VM),
        () => helper.sealMemory(SNAPSHOT),
      ])
        await assert.rejects(act(), refused);
      await helper.takeFiles(VM);
      await helper.takeVolume(VM, "data");
      assert.deepEqual(place.snapshot(), before);
      const stdin = join(place.roots.snapshots, SNAPSHOT, "memory");
      await assert.rejects(helper.launchVmm(VM, { ...SLEEP, stdin }, never), refused);
    }
  });

  const TOUCH: PortLaunch = { ...SLEEP, program: "touch" };
  const programs = { programs: ["touch", "id"], dirs: [] };

  test("hearthd can use the files that a VMM makes in its run directory, and owns its log", async () => {
    const { place } = apart();
    using _place = place;
    const helper = place.helper(true, { owner: OWNER, programs });
    const uid = await helper.leaseUid(VM);
    assert.ok(uid);
    await helper.giveFiles(VM);
    const made = join(place.runDir, "made");
    const launch: PortLaunch = {
      ...TOUCH,
      args: [made],
      files: [{ path: place.runDir, access: "write" }],
      isolation: { ...SLEEP.isolation, jail: true, pidNamespace: true },
    };
    const { exit } = await helper.launchVmm(VM, launch, never);
    assert.deepEqual(await exit, { code: 0, signal: null }, readFileSync(logOf(place), "utf8"));
    assert.deepEqual(ownerOf(made), [uid, OWNER.gid, 0o660]);
    assert.deepEqual(ownerOf(logOf(place)), [OWNER.uid, OWNER.gid, 0o600]);
    await helper.sealRunDir(VM);
    const late = { ...launch, args: [join(place.runDir, "late")] };
    const { exit: refused } = await helper.launchVmm(VM, late, never);
    assert.deepEqual(await refused, { code: 1, signal: null });
  });

  for (const pidNamespace of [false, true]) {
    test(`a VMM without a jail has hearthd's rights, ${pidNamespace ? "with" : "without"} a pid namespace`, async () => {
      const { place } = apart();
      using _place = place;
      const helper = place.helper(true, { owner: OWNER, programs });
      const isolation = { ...SLEEP.isolation, pidNamespace };
      const files = [{ path: "/dev/kvm", access: "device" }] as const;
      const { exit } = await helper.launchVmm(
        VM,
        { ...SLEEP, program: "id", args: [], files, isolation },
        never,
      );
      assert.deepEqual(await exit, { code: 0, signal: null });
      const said = readFileSync(logOf(place), "utf8");
      assert.equal(said, `uid=${OWNER.uid} gid=${OWNER.gid} groups=${OWNER.gid}\n`);
    });
  }

  test("directories that a VMM has made are removed, and the targets of their links stay", async () => {
    const { place, helper, save } = apart();
    using _place = place;
    const uid = await helper.leaseUid(VM);
    assert.ok(uid);
    await helper.giveFiles(VM);
    for (const dir of [save, place.runDir]) {
      const inner = join(dir, "made", "more");
      mkdirSync(inner, { recursive: true });
      symlinkSync(place.outside, join(inner, "link"));
      symlinkSync(place.outside, join(dir, "link"));
      writeFileSync(join(inner, "file"), "");
      for (const path of [join(inner, "link"), join(inner, "file"), inner, join(dir, "made")])
        lchownSync(path, uid, uid);
      chmodSync(inner, 0);
      chmodSync(join(dir, "made"), 0);
    }
    await helper.sealRunDir(VM);
    await helper.takeFiles(VM);
    for (const dir of [save, place.runDir]) assert.deepEqual(readdirSync(dir), []);
    assert.deepEqual(readdirSync(place.outside), ["precious"]);
    assert.deepEqual(ownerOf(join(place.outside, "precious")), [0, 0, 0o600]);
    assert.deepEqual(ownerOf(save), [OWNER.uid, OWNER.gid, 0o700]);
    assert.deepEqual(ownerOf(place.runDir), [OWNER.uid, OWNER.gid, 0o700]);
  });

  test("a jail that leads to a VM of another hearthd is removed, and the VM stays", async () => {
    const { place, helper } = apart();
    using _place = place;
    const others = join(place.outside, "vms", VM);
    mkdirSync(others, { recursive: true });
    rmSync(place.roots.jails, { recursive: true });
    symlinkSync(join(place.outside, "vms"), place.roots.jails);
    await assert.rejects(helper.removeJail(VM), { code: "host.tool_failed" });
    assert.ok(statSync(others).isDirectory());
    rmSync(place.roots.jails);
    mkdirSync(place.roots.jails);
    chownSync(place.roots.jails, OWNER.uid, OWNER.gid);
    symlinkSync(others, join(place.roots.jails, VM));
    await helper.removeJail(VM);
    await helper.removeJail(VM);
    assert.deepEqual(readdirSync(place.roots.jails), []);
    assert.ok(statSync(others).isDirectory());
  });

  test("a VM of another hearthd of the host keeps its cgroup, its processes and its uid", async () => {
    const { place, helper } = apart();
    using _place = place;
    const vms = join(place.outside, "vms");
    mkdirSync(join(vms, VM), { recursive: true });
    const other = place.helper(true, { owner: OWNER, roots: { ...place.roots, vms } });
    await other.leaseUid(VM);
    const self = findProcess(process.pid);
    assert.ok(self);
    const refused = { code: "input.invalid", message: /belongs to another hearthd/ };
    const limits = { cpus: 1, memoryBytes: 2 ** 28, tasks: 100 };
    for (const act of [
      () => helper.leaseUid(VM),
      () => helper.makeCgroup(VM, limits),
      () => helper.removeCgroup(VM, never),
      () => helper.launchVmm(VM, SLEEP, never),
      () => helper.endVmm(VM, self, 0, never),
    ])
      await assert.rejects(act(), refused);
    await other.makeCgroup(VM, limits);
    rmSync(join(vms, VM), { recursive: true }); // The other one has removed it.
    await helper.leaseUid(VM);
  });

  test("a log that leads elsewhere is not written to", async () => {
    const { place, helper } = apart();
    using _place = place;
    const precious = join(place.outside, "precious");
    symlinkSync(precious, logOf(place));
    await assert.rejects(helper.launchVmm(VM, SLEEP, never), { code: "path.unmanaged" });
    assert.deepEqual(ownerOf(precious), [0, 0, 0o600]);
  });
});

function logOf(place: HelperPlace): string {
  return join(place.roots.vms, VM, VM_NAMES.vmmLog);
}
