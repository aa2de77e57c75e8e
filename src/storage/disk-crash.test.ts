/** Kills each operation on a disk after each of its effects on files: the next start finds all of the guest's bytes. */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { VM_NAMES } from "#base/file-names.ts";
import { MIB } from "#base/sizes.ts";
import { findSandboxHost } from "#host/sandbox-host.ts";
import { runOrThrow } from "#host/run.ts";
import { findDisk, hasDisk, layerIndex, LAYERS_MAX } from "#storage/disk-layout.ts";
import { createDisk } from "#storage/disks.ts";
import { vmDisks } from "#storage/vm-disks.ts";
import { crashAtEachEffect } from "#testing/crash-points.ts";
import { QEMU_IMG } from "#testing/tools.ts";

const { signal } = new AbortController();
const SIZE_BYTES = 64 * MIB;
const disks = vmDisks(QEMU_IMG);
/**
 * A directory in memory: programs are killed here, not the power, and each of a thousand syncs would take milliseconds.
 */
const top = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "hearth-crash-"));
after(() => rmSync(top, { recursive: true }));
const skip = await findSandboxHost({ subject: "tools" }, signal).then(
  () => false,
  (error: Error) => `no sandbox here: ${error.message}`,
);

let made = 0;
function newDir(): string {
  const path = join(top, String((made += 1)));
  mkdirSync(path);
  return path;
}

async function qemuIo(vm: string, ...commands: readonly string[]): Promise<string> {
  const { path, format } = findDisk(vm);
  const args = commands.flatMap((command) => ["-c", command]);
  return runOrThrow("qemu-io", ["-f", format, ...args, path], { timeoutMs: 60_000, signal });
}

/** Writes the byte n behind 32 + n MiB, for each generation of layers. */
function write(vm: string, byte: number): Promise<string> {
  return qemuIo(vm, `write -P ${byte} ${32 + byte}M 64k`);
}

async function assertBytes(vm: string, bytes: number): Promise<void> {
  const reads = Array.from({ length: bytes }, (_, index) => `read -P ${index + 1} ${33 + index}M 64k`);
  assert.doesNotMatch(await qemuIo(vm, ...reads), /Pattern verification failed/, vm);
}

/** Makes a VM's directory with so many layers below its own; each has a byte. */
async function layeredVm(layers: number): Promise<string> {
  const vm = newDir();
  await createDisk(join(vm, "disk.raw"), SIZE_BYTES, signal);
  for (let layer = 0; layer < layers; layer++) {
    await write(vm, layer + 1);
    await disks.overlay(vm, signal);
    await disks.commitResumeOverlay(vm);
  }
  await write(vm, layers + 1);
  return vm;
}

/** Copies the directory. Hard links become files, which makes no difference to the tests. */
function copyOf(dir: string): string {
  const copy = newDir();
  cpSync(dir, copy, { recursive: true });
  return copy;
}

async function snapshotOf(vm: string, format: "qcow2" | "raw" = "qcow2"): Promise<string> {
  const to = newDir();
  await disks.freeze(vm, to, signal);
  await disks.finishLayers(to, format, signal);
  return to;
}

/** Makes a snapshot and another VM from it, and reads its bytes: that must be possible whatever happened. */
async function assertSaves(vm: string, bytes: number): Promise<void> {
  const saved = await snapshotOf(vm);
  const copy = newDir();
  await disks.fromSnapshot(saved, copy, "qcow2", signal);
  await assertBytes(copy, bytes);
  assert.ok(findDisk(copy).layers.every((layer, index) => layerIndex(layer) === index));
}

/** Does with a disk what the next start of the VM does. */
async function start(vm: string): Promise<void> {
  assert.ok(hasDisk(vm), `there is a disk in ${readdirSync(vm).join(" ")}`);
  await disks.repair(vm, signal);
}

describe("a kill after each effect", { skip }, () => {
  for (const [title, layers] of [
    ["of a resume", 1],
    ["of a resume that merges layers", LAYERS_MAX],
  ] as const) {
    test(`${title} leaves the disk as it was, for a start, another resume and a snapshot`, async (t) => {
      const source = await layeredVm(layers);
      const places = await crashAtEachEffect({
        prepare: async () => copyOf(source),
        operation: (vm) => disks.overlay(vm, signal),
        check: async (vm) => {
          const other = copyOf(vm);
          await start(vm);
          await assertBytes(vm, layers + 1);
          await disks.overlay(other, signal);
          await assertBytes(other, layers + 1);
          await assertSaves(other, layers + 1);
        },
      });
      t.diagnostic(`${places} places`);
      assert.ok(places > 4);
    });
  }

  test("of a suspend leaves what the guest has written", async () => {
    const source = await layeredVm(1);
    await disks.overlay(source, signal);
    await write(source, 3);
    await crashAtEachEffect({
      prepare: async () => copyOf(source),
      operation: (vm) => disks.commitResumeOverlay(vm),
      check: async (vm) => {
        await start(vm);
        await assertBytes(vm, 3);
      },
    });
  });

  test("of merging a disk into one file leaves the disk, in one form or the other", async () => {
    const source = await layeredVm(2);
    await crashAtEachEffect({
      prepare: async () => copyOf(source),
      operation: (vm) => disks.flatten(vm, signal),
      check: async (vm) => {
        await start(vm);
        await assertBytes(vm, 3);
        await assertSaves(vm, 3);
        await disks.flatten(vm, signal);
        assert.deepEqual(readdirSync(vm), ["disk.raw"]);
        await assertBytes(vm, 3);
      },
    });
  });

  test("of growing a disk leaves one of the old size or the new one", async () => {
    const source = await layeredVm(1);
    await crashAtEachEffect({
      prepare: async () => copyOf(source),
      operation: (vm) => disks.grow(vm, 2 * SIZE_BYTES, signal),
      check: async (vm) => {
        await start(vm);
        await assertBytes(vm, 2);
        await disks.grow(vm, 2 * SIZE_BYTES, signal);
        assert.equal((await disks.usage(vm)).sizeBytes, 2 * SIZE_BYTES);
        await assertBytes(vm, 2);
      },
    });
  });

  for (const format of ["qcow2", "raw"] as const) {
    test(`of a restore from a snapshot (${format}) leaves the old disk, the new disk, or one that is refused`, async () => {
      const saved = await snapshotOf(await layeredVm(format === "raw" ? 0 : 2), format);
      const bytes = format === "raw" ? 1 : 3;
      const before = await layeredVm(1);
      await crashAtEachEffect({
        prepare: async () => copyOf(before),
        operation: (vm) => disks.fromSnapshot(saved, vm, format, signal),
        check: async (vm) => {
          const kept = copyOf(vm);
          // The start is resumed, because its start source is in the row.
          await disks.fromSnapshot(saved, vm, format, signal);
          await assertBytes(vm, bytes);
          if (!hasDisk(kept)) return;
          // Even if it was not: a disk that starts is the old one, or the new one.
          const refusal = await disks
            .repair(kept, signal)
            .catch((error: unknown) => error as { code: string });
          if (refusal !== undefined) return assert.equal(refusal.code, "disk.corrupt");
          await assertBytes(kept, existsSync(join(kept, "layer-2.qcow2")) || format === "raw" ? bytes : 2);
        },
      });
    });
  }

  test("of finishing a snapshot's layers can be repeated", async () => {
    const source = await layeredVm(LAYERS_MAX);
    const frozen = newDir();
    await disks.freeze(source, frozen, signal);
    await crashAtEachEffect({
      prepare: async () => copyOf(frozen),
      operation: (dir) => disks.finishLayers(dir, "qcow2", signal),
      check: async (dir) => {
        await disks.finishLayers(dir, "qcow2", signal);
        const vm = newDir();
        await disks.fromSnapshot(dir, vm, "qcow2", signal);
        await assertBytes(vm, LAYERS_MAX + 1);
      },
    });
  });

  test("of making a new disk leaves a whole one or none, and no temporary file after the next", async () => {
    await crashAtEachEffect({
      prepare: async () => newDir(),
      operation: (vm) => disks.create(vm, SIZE_BYTES, signal),
      check: async (vm) => {
        if (existsSync(join(vm, "disk.raw")))
          await runOrThrow("e2fsck", ["-fn", join(vm, "disk.raw")], { timeoutMs: 60_000, signal });
        await disks.create(vm, SIZE_BYTES, signal);
        assert.deepEqual(readdirSync(vm), ["disk.raw"]);
      },
    });
  });
});

test(
  "a resume that an earlier Hearth began, whose marker has another name, is repeated",
  { skip },
  async () => {
    const vm = await layeredVm(1);
    await disks.overlay(vm, signal);
    renameSync(join(vm, VM_NAMES.resumed), join(vm, VM_NAMES.olderResumed));
    const bytes = 3;
    await write(vm, bytes);
    await disks.overlay(vm, signal);
    await assertBytes(vm, 2);
    await assert.rejects(assertBytes(vm, bytes), "what the first try wrote is gone");
    await write(vm, bytes);
    await disks.commitResumeOverlay(vm);
    assert.ok(!existsSync(join(vm, VM_NAMES.olderResumed)), "from now on it is the VM's own");
    await disks.overlay(vm, signal);
    await assertBytes(vm, bytes);
  },
);

test(
  "a file of an earlier Hearth beside the layers of a resumed VM is not taken for its disk",
  { skip },
  async () => {
    const vm = await layeredVm(1);
    await disks.overlay(vm, signal);
    const other = newDir();
    await createDisk(join(other, "disk.raw"), SIZE_BYTES, signal);
    for (const hasTop of [true, false]) {
      const left = copyOf(vm);
      cpSync(join(other, "disk.raw"), join(left, "disk.raw"));
      if (!hasTop) rmSync(join(left, "disk.qcow2"));
      await disks.overlay(left, signal);
      await assertBytes(left, 2);
    }
  },
);

test(
  "a disk whose layers begin above the lowest name, as after a crash of an older Hearth, can be saved",
  { skip },
  async () => {
    const vm = newDir();
    await createDisk(join(vm, "disk.raw"), SIZE_BYTES, signal);
    await write(vm, 1);
    await runOrThrow("mv", [join(vm, "disk.raw"), join(vm, "layer-5.raw")], { timeoutMs: 60_000, signal });
    const overlay = ["create", "-q", "-f", "qcow2", "-b", "layer-5.raw", "-F", "raw", "disk.qcow2"];
    await runOrThrow("qemu-img", overlay, { cwd: vm, timeoutMs: 60_000, signal });
    await write(vm, 2);
    await start(vm);
    await runOrThrow("chmod", ["0444", join(vm, "layer-5.raw")], { timeoutMs: 60_000, signal });
    await assertSaves(vm, 2);
  },
);
