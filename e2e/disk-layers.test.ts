/** Disks that VMs and snapshots share in layers, with the real qemu-img; what a guest would write, qemu-io writes. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { freezeDisk } from "#storage/disk-layers.ts";
import { findDisk, hasDisk, LAYERS_MAX } from "#storage/disk-layout.ts";
import { createDisk } from "#storage/disks.ts";
import { vmDisks } from "#storage/vm-disks.ts";
import { QEMU_IMG } from "#testing/tools.ts";

const disks = vmDisks(QEMU_IMG);
const { finishLayers, commitResumeOverlay } = disks;
const {
  fromSnapshot: diskFromSnapshot,
  overlay: overlayDisk,
  flatten: flattenDisk,
  repair: repairDisk,
} = disks;
const { signal } = new AbortController();
const TOOL = { timeoutMs: 60_000, signal };
const SIZE_BYTES = 64 * 1024 ** 2;
/** Beyond the file system's own structures. */
const AT = "32M";
const top = mkdtempSync(join(tmpdir(), "hearth-layers-"));
after(() => rmSync(top, { recursive: true }));

let made = 0;
function dir(): string {
  const path = join(top, String((made += 1)));
  mkdirSync(path);
  return path;
}

async function newVm(): Promise<string> {
  const vm = dir();
  await createDisk(join(vm, "disk.raw"), SIZE_BYTES, signal);
  return vm;
}

async function write(vm: string, byte: number): Promise<void> {
  await qemuIo(vm, [`write -P ${byte} ${AT} 64k`]);
}

/** Fails when there is anything else. */
async function expect(vm: string, byte: number): Promise<void> {
  const said = await qemuIo(vm, [`read -P ${byte} ${AT} 64k`]);
  assert.doesNotMatch(said, /Pattern verification failed/, `${vm} has ${byte}`);
}

function qemuIo(vm: string, commands: readonly string[]): Promise<string> {
  const { path, format } = findDisk(vm);
  const words = commands.flatMap((command) => ["-c", command]);
  return runOrThrow("qemu-io", ["-f", format, ...words, path], { timeoutMs: 60_000, signal });
}

/** Takes a snapshot of a VM that is stopped. */
async function snapshot(vm: string): Promise<string> {
  const to = dir();
  await freezeDisk(vm, to, signal);
  await finishLayers(to, "qcow2", signal);
  return to;
}

async function vmFrom(saved: string): Promise<string> {
  const vm = dir();
  await diskFromSnapshot(saved, vm, "qcow2", signal);
  return vm;
}

function allocatedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

describe("a disk in layers", () => {
  test("begins as the disk was at the snapshot, whatever is written to the first one later", async () => {
    const source = await newVm();
    await write(source, 1);
    const saved = await snapshot(source);
    await write(source, 2);
    const copy = await vmFrom(saved);
    await expect(copy, 1);
    await expect(source, 2);
    const { layers } = findDisk(copy);
    await runOrThrow("e2fsck", ["-fn", layers[0] ?? ""], { timeoutMs: 60_000, signal });
  });

  test("what one VM writes no other one sees, and a snapshot that is removed takes nothing from them", async () => {
    const source = await newVm();
    await write(source, 1);
    const saved = await snapshot(source);
    const [one, other] = [await vmFrom(saved), await vmFrom(saved)];
    await write(one, 2);
    await expect(other, 1);
    rmSync(saved, { recursive: true });
    await expect(one, 2);
    await expect(other, 1);
    const frozen = findDisk(one).layers[0] ?? "";
    assert.equal(statSync(frozen).mode & 0o222, 0, "nobody may write to a frozen layer");
  });

  test("costs a second VM less than 1 MiB of the host's disk", async () => {
    const source = await newVm();
    const saved = await snapshot(source);
    const vm = await vmFrom(saved);
    assert.ok(allocatedBytes(findDisk(vm).path) <= 1024 ** 2);
    const shared = findDisk(vm).layers.map((path) => statSync(path).nlink);
    assert.deepEqual(shared, [2], "the layer below is the snapshot's own file");
  });

  test("has a bounded number of layers, however often its copies are copied, and all of what was written", async () => {
    let vm = await newVm();
    for (let generation = 1; generation <= LAYERS_MAX + 3; generation += 1) {
      await qemuIo(vm, [`write -P ${generation} ${generation}M 64k`]);
      const saved = await snapshot(vm);
      vm = await vmFrom(saved);
      assert.ok(findDisk(vm).layers.length <= LAYERS_MAX);
      const said = await qemuIo(
        vm,
        Array.from({ length: generation }, (_, index) => `read -P ${index + 1} ${index + 1}M 64k`),
      );
      assert.doesNotMatch(said, /Pattern verification failed/);
    }
  });

  test("is one file where the driver takes no other, and refused where it lies in several layers", async () => {
    const source = await newVm();
    await write(source, 1);
    const saved = dir();
    await freezeDisk(source, saved, signal);
    await finishLayers(saved, "raw", signal);
    const plain = dir();
    await diskFromSnapshot(saved, plain, "raw", signal);
    assert.deepEqual(readdirSync(plain), ["disk.raw"]);
    await expect(plain, 1);
    const layered = await snapshot(await vmFrom(await snapshot(source)));
    await assert.rejects(diskFromSnapshot(layered, dir(), "raw", signal), { code: "snapshot.mismatch" });
  });

  test("is not begun from a snapshot with a file missing, and what was there before stays", async () => {
    const source = await newVm();
    await write(source, 1);
    const saved = await snapshot(await vmFrom(await snapshot(source)));
    const vm = await newVm();
    await write(vm, 4);
    for (const name of readdirSync(saved)) {
      renameSync(join(saved, name), `${saved}.away`);
      await assert.rejects(diskFromSnapshot(saved, vm, "qcow2", signal), { code: "snapshot.corrupt" }, name);
      await expect(vm, 4);
      renameSync(`${saved}.away`, join(saved, name));
    }
    await diskFromSnapshot(saved, vm, "qcow2", signal);
    await expect(vm, 1);
  });

  test("is put in place again over what a crash has left of it", async () => {
    const saved = await snapshot(await newVm());
    const vm = await vmFrom(saved);
    await write(vm, 3);
    await diskFromSnapshot(saved, vm, "qcow2", signal);
    await expect(vm, 0);
    assert.ok(existsSync(findDisk(vm).path));
  });
});

describe("the disk of a VM that was suspended", () => {
  test("is the same again at each resume, until the VM is suspended once more", async () => {
    const vm = await newVm();
    await write(vm, 1);
    for (const byte of [2, 3]) {
      await overlayDisk(vm, signal);
      await expect(vm, 1);
      await write(vm, byte);
    }
    await commitResumeOverlay(vm);
    await overlayDisk(vm, signal);
    await expect(vm, 3);
  });

  test("has a bounded number of layers, however often it is resumed, and all of what was written", async () => {
    const vm = await newVm();
    for (let time = 1; time <= 2 * LAYERS_MAX + 3; time += 1) {
      await overlayDisk(vm, signal);
      await qemuIo(vm, [`write -P ${time} ${time}M 64k`]);
      await commitResumeOverlay(vm);
      assert.ok(findDisk(vm).layers.length <= LAYERS_MAX);
      const said = await qemuIo(
        vm,
        Array.from({ length: time }, (_, index) => `read -P ${index + 1} ${index + 1}M 64k`),
      );
      assert.doesNotMatch(said, /Pattern verification failed/);
    }
    const saved = await snapshot(vm);
    await expect(await vmFrom(saved), 0);
  });

  test("is whole when a crash came between its layer and the one on top", async () => {
    const vm = await newVm();
    await write(vm, 1);
    renameSync(join(vm, "disk.raw"), join(vm, "layer-0.raw"));
    assert.ok(hasDisk(vm), "a disk without its top is a disk");
    await repairDisk(vm, signal);
    await expect(vm, 1);
  });

  test("is whole when a crash came while its layers were made into one", async () => {
    const vm = await newVm();
    await write(vm, 1);
    await overlayDisk(vm, signal);
    await commitResumeOverlay(vm);
    await write(vm, 2);
    await overlayDisk(vm, signal);
    // As `flatten` leaves it when it is killed before the layers below go.
    const highest = findDisk(vm).layers.at(-1) ?? "";
    await runOrThrow("qemu-img", ["convert", "-O", "raw", highest, join(vm, "layer-2.raw")], TOOL);
    await overlayDisk(vm, signal);
    assert.deepEqual(
      findDisk(vm).layers,
      [join(vm, "layer-0.raw")],
      "with the lowest name, as archives have it",
    );
    await expect(vm, 2);
  });

  test("is one file for a driver that takes no other", async () => {
    const vm = await newVm();
    await write(vm, 1);
    await overlayDisk(vm, signal);
    await write(vm, 2);
    await flattenDisk(vm, signal);
    assert.equal(findDisk(vm).format, "raw");
    await expect(vm, 2);
  });
});
