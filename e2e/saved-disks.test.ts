/** Tests the disk of a VM that is saved while it writes, and the space that many snapshots take. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, lstatSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import type { Snapshot } from "#api/wire.ts";
import { runOrThrow } from "#host/run.ts";
import { LAYERS_MAX } from "#storage/disk-layout.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";
import { CHECK, NOTED, WRITER } from "./synced-writer.ts";

const bed = new Bed();
const MIB = 1024 ** 2;
const TOOL_MS = 120_000;

/** Flags with `--disk 1G`, so that a file system is looked through in no time. */
const WORDS = [...SMALL, "--disk", "1G", "debian"];

/** Names come and go, and blocks that nobody waits for. */
const CHURN = "while :; do cp -r /etc /root/etc.new; rm -rf /root/etc; mv /root/etc.new /root/etc; done";
const DIRT = "while :; do dd if=/dev/zero of=/root/dirt bs=1M count=24 conv=notrunc 2>/dev/null; done";

async function dirOf(name: string): Promise<string> {
  const { id } = JSON.parse(await bed.ok(["snapshot", "show", "--json", name])) as Snapshot;
  return join(bed.dirs.state, "snapshots", id);
}

function layersIn(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.startsWith("layer-"));
}

/** Returns the disk space of a directory; a file with several names counts once. */
function bytesIn(dir: string): number {
  const blocks = new Map<number, number>();
  for (const name of readdirSync(dir, { recursive: true, encoding: "utf8" })) {
    const found = lstatSync(join(dir, name));
    if (found.isFile()) blocks.set(found.ino, found.blocks);
  }
  return 512 * [...blocks.values()].reduce((sum, count) => sum + count, 0);
}

describe("a VM that is saved while it writes as much as it can", { concurrency: false }, () => {
  const names = ["memory-1", "memory-2", "disk-1", "disk-2"];

  before(async () => {
    await bed.ok(["create", "--name", "busy", ...WORDS]);
    for (const script of [WRITER, CHURN, DIRT])
      await bed.ok(["exec", "-d", "busy", "--", "bash", "-c", script]);
    for (const [index, name] of names.entries()) {
      await bed.until(async () => Number(await bed.sh("busy", NOTED)) > 5 * (index + 1));
      const kind = name.startsWith("disk") ? ["--disk-only"] : [];
      await bed.ok(["snapshot", "create", ...kind, "busy", name]);
    }
  });

  for (const name of names) {
    test(`${name}: its file system is clean, or its journal makes it so`, async () => {
      const dir = await dirOf(name);
      const raw = join(bed.dir, `${name}.raw`);
      const options = { timeoutMs: TOOL_MS, signal: AbortSignal.timeout(TOOL_MS) };
      await runOrThrow("qemu-img", ["convert", "-O", "raw", join(dir, "empty.qcow2"), raw], options);
      chmodSync(raw, 0o600);
      // As a guest's mount does; it fails on anything that the journal does not mend.
      await runOrThrow("e2fsck", ["-p", raw], options);
      await runOrThrow("e2fsck", ["-fn", raw], options);
      rmSync(raw);
    });

    test(`${name}: what was synced before is there, whole, in a VM that boots from it`, async () => {
      await bed.ok(["create", "--name", "boots", "--cold", "--snapshot", name]);
      const [noted = "", ...wrong] = (await bed.sh("boots", CHECK)).trim().split("\n").toReversed();
      assert.deepEqual(wrong, []);
      assert.ok(Number(noted) > 5, `${noted} files were noted`);
      assert.doesNotMatch(await bed.sh("boots", "dmesg"), /EXT4-fs (error|warning)|I\/O error/);
      await bed.sh("boots", "echo new > /root/new; sync");
      await bed.ok(["rm", "-f", "boots"]);
    });
  }

  test("with its memory it continues to write, and everything that it ever synced is whole", async () => {
    await bed.ok(["create", "--name", "goes-on", "--snapshot", "memory-1"]);
    const count = async (): Promise<number> => Number(await bed.sh("goes-on", "wc -l < /root/synced"));
    const atFirst = await count();
    await bed.until(async () => (await count()) > atFirst + 3);
    await bed.ok([
      "exec",
      "goes-on",
      "--",
      "sh",
      "-c",
      "kill $(grep -la /root/ /proc/[0-9]*/cmdline | cut -d/ -f3 | grep -vx $$) || true",
    ]);
    const [noted = "", ...wrong] = (await bed.sh("goes-on", CHECK)).trim().split("\n").toReversed();
    assert.deepEqual(wrong, []);
    assert.ok(Number(noted) > atFirst);
    assert.doesNotMatch(await bed.sh("goes-on", "dmesg"), /EXT4-fs (error|warning)|I\/O error/);
    await bed.ok(["rm", "-f", "goes-on", "busy"]);
    await bed.ok(["snapshot", "rm", ...names]);
    assert.deepEqual(bed.leftovers(), []);
  });
});

describe("snapshots of one VM one after the other", { concurrency: false }, () => {
  before(async () => {
    await bed.ok(["create", "--name", "web", ...WORDS]);
    await bed.sh("web", "head -c 8M /dev/urandom > /root/kept; sha256sum /root/kept > /root/sum; sync");
  });

  test("24 of them, each removed again: the VM's directories and the disk are as after the first", async () => {
    const { paths, id } = await bed.vm("web");
    const vmDir = join(bed.dirs.state, "vms", id);
    const seen: { readonly files: readonly string[]; readonly bytes: number; readonly snapshot: number }[] =
      [];
    for (let number = 1; number <= 24; number++) {
      await bed.sh("web", `echo ${number} > /root/number; sync`);
      await bed.ok(["snapshot", "create", "web", `s${number}`]);
      const dir = await dirOf(`s${number}`);
      assert.ok(layersIn(dir).length <= LAYERS_MAX + 1);
      const snapshot = bytesIn(dir);
      await bed.ok(["snapshot", "rm", `s${number}`]);
      assert.equal(existsSync(dir), false);
      const files = [vmDir, paths.sockets].flatMap((path) => readdirSync(path).toSorted());
      seen.push({ files, bytes: bytesIn(bed.dirs.state), snapshot });
    }
    const [first, last] = [seen[0], seen.at(-1)];
    assert.ok(first !== undefined && last !== undefined);
    assert.deepEqual(last.files, first.files);
    // The log grows by some lines for each; a guest's memory by what it does.
    assert.ok(last.bytes - first.bytes < 32 * MIB, `${first.bytes} bytes became ${last.bytes}`);
    assert.ok(last.snapshot - first.snapshot < 64 * MIB, `${first.snapshot} bytes became ${last.snapshot}`);
    assert.equal(bed.vmms().length, 1);
    assert.equal(await bed.sh("web", "sha256sum --quiet -c /root/sum; cat /root/number"), "24\n");
  });

  test("twelve that are kept, and removed in any order: each has what was written by then", async () => {
    const numbers = Array.from({ length: 12 }, (_, index) => index + 1);
    for (const number of numbers) {
      await bed.sh("web", `echo ${number} > /root/number; sync`);
      await bed.ok(["snapshot", "create", "--disk-only", "web", `k${number}`]);
    }
    for (const number of [1, 6, 11]) await bed.ok(["snapshot", "rm", `k${number}`]);
    for (const number of [2, 12]) {
      await bed.ok(["create", "--name", "copy", "--snapshot", `k${number}`]);
      assert.equal(await bed.sh("copy", "sha256sum --quiet -c /root/sum; cat /root/number"), `${number}\n`);
      await bed.ok(["rm", "-f", "copy"]);
    }
    await bed.ok(["snapshot", "rm", ...[2, 3, 4, 5, 7, 8, 9, 10, 12].map((number) => `k${number}`)]);
    assert.deepEqual(bed.snapshotDirs(), []);
  });

  test(`ten generations, each saved and restored: never more than ${LAYERS_MAX} layers, and nothing is lost`, async () => {
    const { id } = await bed.vm("web");
    const vmDir = join(bed.dirs.state, "vms", id);
    const sizes: number[] = [];
    for (let generation = 1; generation <= 10; generation++) {
      await bed.sh("web", `echo ${generation} >> /root/generations; sync`);
      await bed.ok(["snapshot", "create", "web", `g${generation}`]);
      await bed.sh("web", "echo undone >> /root/generations; sync");
      await bed.ok(["snapshot", "restore", `g${generation}`]);
      assert.ok(layersIn(await dirOf(`g${generation}`)).length <= LAYERS_MAX);
      assert.ok(layersIn(vmDir).length <= LAYERS_MAX);
      if (generation > 1) await bed.ok(["snapshot", "rm", `g${generation - 1}`]);
      sizes.push(bytesIn(bed.dirs.state));
    }
    const script = "tr '\\n' ' ' < /root/generations; sha256sum --quiet -c /root/sum";
    assert.equal(await bed.sh("web", script), "1 2 3 4 5 6 7 8 9 10 ");
    const [least, most] = [Math.min(...sizes.slice(1)), Math.max(...sizes)];
    // One memory more or less; ten of them would be more than a GiB.
    assert.ok(most - least < 256 * MIB, `from ${least} to ${most} bytes`);
    await bed.ok(["rm", "-f", "web"]);
    await bed.ok(["snapshot", "rm", "g10"]);
    assert.deepEqual(bed.leftovers(), []);
  });
});
