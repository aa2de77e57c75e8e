/** A VMM that was taken over can write anything into its own disk; the host's programs open none of it. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  closeSync,
  existsSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { GIB, MIB } from "#base/sizes.ts";
import { runOrThrow } from "#host/run.ts";
import { findSandboxHost } from "#host/sandbox-host.ts";
import { createDisk } from "#storage/disks.ts";
import { proveDisk } from "#storage/proven-disk.ts";
import { vmDisks } from "#storage/vm-disks.ts";
import { QEMU_IMG } from "#testing/tools.ts";

const { signal } = new AbortController();
const SECRET = "root:$6$A-SECRET-OF-THE-HOST";
const disks = vmDisks(QEMU_IMG);
const top = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "hearth-proven-"));
const secret = join(top, "shadow");
after(() => rmSync(top, { recursive: true }));
const skip = await findSandboxHost({ subject: "tools" }, signal).then(
  () => false,
  (error: Error) => `no sandbox here: ${error.message}`,
);

function qemuImg(cwd: string, ...args: readonly string[]): Promise<string> {
  return runOrThrow("qemu-img", args, { cwd, timeoutMs: 60_000, signal });
}

let made = 0;
let sound = "";

/** A VM with a layer below its own, and some data of the guest. */
before(async () => {
  if (skip !== false) return;
  writeFileSync(secret, SECRET.padEnd(1024, "#"), { mode: 0o600 });
  sound = join(top, "sound");
  mkdirSync(sound);
  await createDisk(join(sound, "disk.raw"), 64 * MIB, signal);
  await disks.overlay(sound, signal);
  await disks.commitResumeOverlay(sound);
  await runOrThrow("qemu-io", ["-f", "qcow2", "-c", "write -P 7 1M 64k", join(sound, "disk.qcow2")], {
    timeoutMs: 60_000,
    signal,
  });
});

async function vmWith(tamper: (vm: string, disk: string) => unknown): Promise<string> {
  const vm = join(top, String((made += 1)));
  cpSync(sound, vm, { recursive: true });
  await tamper(vm, join(vm, "disk.qcow2"));
  return vm;
}

function poke(path: string, at: number, bytes: Buffer): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, at);
  closeSync(file);
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

/** Returns the offset of the first second-level table. */
function firstTable(path: string): number {
  const file = readFileSync(path);
  const l1 = Number(file.readBigUInt64BE(40));
  return Number(file.readBigUInt64BE(l1) & 0x00ff_ffff_ffff_fe00n);
}

const TAMPERED: Readonly<Record<string, (vm: string, disk: string) => unknown>> = {
  "lies on a file of the host": (vm) =>
    qemuImg(vm, "rebase", "-u", "-f", "qcow2", "-b", secret, "-F", "raw", "disk.qcow2"),
  "lies on a server": (vm) =>
    qemuImg(vm, "rebase", "-u", "-f", "qcow2", "-b", "nbd://127.0.0.1:9/x", "-F", "raw", "disk.qcow2"),
  "lies on itself, in a description": (vm) =>
    qemuImg(
      vm,
      "rebase",
      "-u",
      "-f",
      "qcow2",
      "-b",
      'json:{"driver":"raw","file":{"driver":"file","filename":"disk.qcow2"}}',
      "-F",
      "raw",
      "disk.qcow2",
    ),
  "has its data in a file of the host": async (vm, disk) => {
    rmSync(disk);
    await qemuImg(
      vm,
      "create",
      "-q",
      "-f",
      "qcow2",
      "-o",
      `data_file=${join(top, "data")},data_file_raw=on`,
      "disk.qcow2",
      "64M",
    );
  },
  "is larger than any disk may be": (_vm, disk) => poke(disk, 24, u64(2n ** 62n)),
  "is smaller than what it lies on": (_vm, disk) => poke(disk, 24, u64(1024n)),
  "is encrypted": (_vm, disk) => poke(disk, 32, Buffer.from([0, 0, 0, 1])),
  "has internal snapshots": (vm) => qemuImg(vm, "snapshot", "-c", "one", "disk.qcow2"),
  "needs features that Hearth does not use": (_vm, disk) => poke(disk, 72, u64(8n)),
  "is no qcow2 any more": (_vm, disk) => poke(disk, 0, Buffer.from("KDMV")),
  "is of another version": (_vm, disk) => poke(disk, 4, Buffer.from([0, 0, 0, 2])),
  "has a compressed cluster": (_vm, disk) => poke(disk, firstTable(disk) + 8 * 16, u64(2n ** 62n + 65536n)),
  "shows one cluster in two places": (_vm, disk) => {
    const entry = readFileSync(disk).subarray(firstTable(disk) + 8 * 16, firstTable(disk) + 8 * 17);
    assert.notEqual(entry.readBigUInt64BE(), 0n, "the guest's cluster");
    poke(disk, firstTable(disk) + 8 * 17, entry);
  },
  "has a table for a smaller disk": (_vm, disk) => poke(disk, 36, Buffer.alloc(4)),
  "has a table beyond every disk": (_vm, disk) => poke(disk, 40, u64(2n ** 50n)),
  "is a link": (_vm, disk) => {
    rmSync(disk);
    symlinkSync(secret, disk);
  },
  "is cut off": (_vm, disk) => truncateSync(disk, 50),
};

describe("a disk that its VMM has changed", { skip }, () => {
  for (const [what, tamper] of Object.entries(TAMPERED)) {
    test(`and that ${what} is opened by no program of the host`, async () => {
      const victims = [secret, join(top, "data")].map(
        (path) => statSync(path, { throwIfNoEntry: false })?.size,
      );
      const operations: Readonly<Record<string, (vm: string) => Promise<unknown>>> = {
        repair: (vm) => disks.repair(vm, signal),
        overlay: (vm) => disks.overlay(vm, signal),
        flatten: (vm) => disks.flatten(vm, signal),
        grow: (vm) => disks.grow(vm, GIB, signal),
      };
      const template = await vmWith(tamper);
      const dataSize = statSync(join(top, "data"), { throwIfNoEntry: false })?.size;
      for (const [name, operation] of Object.entries(operations)) {
        const vm = join(top, String((made += 1)));
        cpSync(template, vm, { recursive: true, verbatimSymlinks: true });
        await assert.rejects(operation(vm), { code: "disk.corrupt" }, name);
        assert.deepEqual(readdirSync(vm).toSorted(), readdirSync(template).toSorted(), "and stays unchanged");
      }
      assert.equal(statSync(secret).size, victims[0]);
      assert.equal(statSync(join(top, "data"), { throwIfNoEntry: false })?.size, dataSize);
      assert.equal(
        (await disks.usage(template).catch(() => ({ sizeBytes: 0 }))).sizeBytes <= 128 * GIB,
        true,
      );
    });
  }

  test("becomes neither a snapshot nor the disk of another VM", async () => {
    const vm = await vmWith(TAMPERED["lies on a file of the host"] ?? assert.fail);
    const saved = join(top, "saved");
    mkdirSync(saved);
    await disks.freeze(vm, saved, signal);
    await assert.rejects(disks.finishLayers(saved, "qcow2", signal), { code: "disk.corrupt" });
    const other = join(top, "other");
    cpSync(sound, other, { recursive: true });
    await assert.rejects(disks.fromSnapshot(saved, other, "qcow2", signal), { code: "snapshot.corrupt" });
    await proveDisk([join(other, "layer-0.raw"), join(other, "disk.qcow2")]);
  });

  test("connects to no server when it is merged into one file, where an unproven one would", async (t) => {
    let asked = 0;
    const server = createServer((socket) => {
      asked += 1;
      socket.destroy();
    }).listen(0, "127.0.0.1");
    t.after(() => server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const url = `nbd://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
    const vm = await vmWith((dir) =>
      qemuImg(dir, "rebase", "-u", "-f", "qcow2", "-b", url, "-F", "raw", "disk.qcow2"),
    );
    await qemuImg(vm, "convert", "-O", "raw", "disk.qcow2", "out").catch(() => {}); // The server hangs up.
    assert.equal(asked, 1, "the probe works");
    await assert.rejects(disks.flatten(vm, signal), { code: "disk.corrupt" });
    assert.equal(asked, 1);
  });
});

test(
  "a disk that QEMU has written is proven: with data, discarded blocks, growth, and a lost end",
  { skip },
  async () => {
    const vm = await vmWith(() => {});
    const paths = [join(vm, "layer-0.raw"), join(vm, "disk.qcow2")];
    const io = (...commands: readonly string[]): Promise<string> =>
      runOrThrow(
        "qemu-io",
        ["-f", "qcow2", "-d", "unmap", ...commands.flatMap((command) => ["-c", command]), paths[1] ?? ""],
        { timeoutMs: 60_000, signal },
      );
    await io(
      "write -P 1 0 8M",
      "discard 1M 2M",
      "write -z 4M 1M",
      "write -z -u 6M 1M",
      "write 1M 64k",
      "flush",
    );
    assert.equal((await proveDisk(paths)).sizeBytes, 64 * MIB);
    await disks.grow(vm, 2 * GIB, signal);
    await io("write -P 2 1500M 1M");
    assert.equal((await proveDisk(paths)).sizeBytes, 2 * GIB);
    truncateSync(paths[1] ?? "", statSync(paths[1] ?? "").size - 65_536);
    await proveDisk(paths);
    appendFileSync(paths[1] ?? "", Buffer.alloc(65_536));
    await proveDisk(paths);
  },
);
