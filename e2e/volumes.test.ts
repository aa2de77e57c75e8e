/** Volumes in real guests: what one VM wrote is there for the next, sound, and for one writer at a time. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Volume } from "#api/wire.ts";
import { runOrThrow } from "#host/run.ts";
import { Bed } from "./bed.ts";

const bed = new Bed();

async function volume(name: string): Promise<Volume> {
  return JSON.parse(await bed.ok(["volume", "show", "--json", name])) as Volume;
}

/** A file system that was closed; e2fsck fails for one that is damaged, and says so for one with an open journal. */
async function assertClean(name: string): Promise<void> {
  const { path } = await volume(name);
  const signal = AbortSignal.timeout(60_000);
  const told = await runOrThrow("e2fsck", ["-f", "-n", path], { timeoutMs: 60_000, signal });
  assert.doesNotMatch(told, /journal|recover/i);
}

test("a missing volume is refused before anything is made, and its sentence names the fix", async () => {
  for (const verb of ["run", "create"]) {
    const refused = await bed.hearth([verb, "--volume", "data:/data", "debian"]);
    assert.equal(refused.code, verb === "run" ? 125 : 1);
    assert.match(refused.stderr, /error: There is no volume data\.\nhint: .*hearth volume create data/);
  }
  assert.deepEqual(await bed.vms(), []);
  assert.deepEqual(bed.leftovers(), []);
});

test("what a VM wrote outlives its removal, clean, and the next VM sees it", async () => {
  await bed.ok(["volume", "create", "data", "--size", "512M"]);
  const words = ["--volume", "data:/mnt/new/data"];
  await bed.ok(["run", "--rm", ...words, "debian", "--", "sh", "-c", "echo kept > /mnt/new/data/file"]);
  assert.deepEqual(await bed.vms(), []);
  await assertClean("data");
  assert.equal(
    await bed.ok(["run", "--rm", ...words, "debian", "--", "cat", "/mnt/new/data/file"]),
    "kept\n",
  );
});

test("one writer, or many readers: the error names the VM, and read-only holds for root in the guest", async () => {
  await bed.ok(["create", "--name", "writer", "--volume", "data:/data", "debian"]);
  const readers = ["reader-1", "reader-2"];
  for (const name of readers)
    await bed.ok(["create", "--no-start", "--name", name, "--volume", "data:/data:ro", "debian"]);
  const writes =
    "echo w > /data/w; mount -o remount,rw /data; echo x > /data/x; dd if=/dev/zero of=/dev/vdc count=1";
  const refused = await bed.hearth(["start", "reader-1"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /error: writer writes the volume data\.\nhint: Stop it first/);
  await bed.hearth(["exec", "writer", "--", "sh", "-c", "echo w > /data/w"]);
  assert.equal(await bed.sh("writer", "cat /data/w; rm /data/w"), "w\n", "the probe can write");
  await bed.ok(["stop", "writer"]);
  await assertClean("data");
  for (const name of readers) await bed.ok(["start", name]);
  for (const name of readers) {
    assert.notEqual((await bed.hearth(["exec", name, "--", "sh", "-c", writes])).code, 0);
    assert.equal(await bed.sh(name, "ls /data"), "file\nlost+found\n");
  }
  const busy = await bed.hearth(["start", "writer"]);
  assert.match(busy.stderr, /error: reader-[12] reads the volume data/);
  assert.deepEqual((await volume("data")).usedBy.toSorted(), ["reader-1", "reader-2", "writer"]);
  const kept = await bed.hearth(["volume", "rm", "data"]);
  assert.match(kept.stderr, /error: The volume data is used by .*writer/);
  await bed.ok(["rm", "-f", ...readers]);
});

test("after kill -9 of the VMM what was synced is there, once a writer has played the journal back", async () => {
  await bed.ok(["start", "writer"]);
  await bed.sh("writer", "for n in 1 2 3 4 5; do echo $n > /data/synced-$n; done; sync");
  await bed.ok(["kill", "writer"]);
  await bed.ok(["create", "--no-start", "--name", "reader", "--volume", "data:/data:ro", "debian"]);
  const half = await bed.hearth(["start", "reader"]);
  assert.equal(half.code, 1);
  assert.match(half.stderr, /volume for \/data cannot be mounted: .*without :ro once/);
  assert.equal((await bed.vm("reader")).phase, "failed");
  await bed.ok(["start", "writer"]);
  assert.equal(await bed.sh("writer", "cat /data/synced-*"), "1\n2\n3\n4\n5\n");
  await bed.ok(["stop", "writer"]);
  await assertClean("data");
  await bed.ok(["start", "reader"]);
  assert.equal(await bed.sh("reader", "cat /data/synced-*"), "1\n2\n3\n4\n5\n");
  await bed.ok(["rm", "-f", "reader", "writer"]);
});

test("--from: modes, symlinks, unicode names and content arrive as they are in the directory", async () => {
  const tree = join(bed.dir, "tree");
  mkdirSync(join(tree, "ünï 日本"), { recursive: true });
  writeFileSync(join(tree, "ünï 日本", "file"), "content\n");
  chmodSync(join(tree, "ünï 日本", "file"), 0o640);
  writeFileSync(join(tree, "tool"), "#!/bin/sh\necho runs\n");
  chmodSync(join(tree, "tool"), 0o755);
  symlinkSync("ünï 日本/file", join(tree, "link"));
  await bed.ok(["volume", "create", "site", "--from", tree]);
  const script =
    "cd /site; ./tool; cat link; readlink link; stat -c '%a %n' tool ünï*/file; touch more; df /site >/dev/null";
  const words = ["run", "--rm", "--volume", "site:/site", "debian", "--", "sh", "-c", script];
  assert.equal(await bed.ok(words), "runs\ncontent\nünï 日本/file\n755 tool\n640 ünï 日本/file\n");
  await assertClean("site");
});

test("a directory in a volume is another volume's place, in whatever order they are named", async () => {
  await bed.ok(["volume", "create", "inner", "--size", "64M"]);
  const words = ["--volume", "inner:/data/in", "--volume", "data:/data"];
  const script = "mountpoint -q /data/in && echo in > /data/in/f && cat /data/file";
  assert.equal(await bed.ok(["run", "--rm", ...words, "debian", "--", "sh", "-c", script]), "kept\n");
  for (const name of ["data", "inner"]) await assertClean(name);
});

test("volumes that no VM names go with their data, and nothing is left", async () => {
  await bed.ok(["volume", "rm", "data", "site", "inner"]);
  assert.equal(await bed.ok(["volume", "ls", "-q"]), "");
  assert.equal(existsSync(join(bed.dirs.state, "volumes", "data")), false);
  assert.deepEqual(bed.leftovers(), []);
});
