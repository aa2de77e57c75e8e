import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { GIB, MIB } from "#base/sizes.ts";
import { runOrThrow } from "#host/run.ts";
import { parseVolumeName } from "#model/ids.ts";
import { Volumes } from "#storage/volumes.ts";
import { crashAtEachEffect } from "#testing/crash-points.ts";

const NAME = parseVolumeName("data");

async function place(t: TestContext): Promise<{ dir: string; root: string; volumes: Volumes }> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-volumes-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const root = join(dir, "volumes");
  const volumes = new Volumes(root);
  await volumes.cleanUp();
  return { dir, root, volumes };
}

function debugfs(disk: string, request: string, signal: AbortSignal): Promise<string> {
  return runOrThrow("debugfs", ["-R", request, disk], { timeoutMs: 30_000, signal });
}

test("a new volume is a sound ext4 of its size that takes next to nothing, until it is removed", async (t) => {
  const { root, volumes } = await place(t);
  const made = await volumes.create({ name: NAME, sizeBytes: 4 * GIB }, t.signal);
  assert.equal(made.sizeBytes, 4 * GIB);
  assert.ok(made.allocatedBytes <= 2 * MIB, `${made.allocatedBytes}`);
  await runOrThrow("e2fsck", ["-f", "-n", made.path], { timeoutMs: 60_000, signal: t.signal });
  assert.deepEqual(await volumes.list(), [made]);
  assert.deepEqual(await volumes.get(NAME), made);
  await volumes.remove(NAME);
  assert.equal(volumes.has(NAME), false);
  assert.deepEqual(readdirSync(root), []);
  assert.throws(() => volumes.remove(NAME), { code: "volume.not_found" });
  await assert.rejects(volumes.get(NAME), { code: "volume.not_found" });
});

test("a volume from a directory keeps names, modes, owners, links and holes, and has room to work", async (t) => {
  const { dir, volumes } = await place(t);
  const tree = join(dir, "tree");
  mkdirSync(join(tree, "ünïcode 日本"), { recursive: true });
  writeFileSync(join(tree, "file"), "content", { mode: 0o640 });
  symlinkSync("/nowhere", join(tree, "link"));
  linkSync(join(tree, "file"), join(tree, "hard"));
  chmodSync(join(tree, "ünïcode 日本"), 0o2775);
  chmodSync(tree, 0o751);
  const isRoot = process.getuid?.() === 0;
  if (isRoot) for (const name of ["file", "."]) chownSync(join(tree, name), 1234, 70_000);
  const { path, sizeBytes } = await volumes.create({ name: NAME, from: tree }, t.signal);
  assert.ok(sizeBytes >= GIB, `${sizeBytes}`);
  await runOrThrow("e2fsck", ["-f", "-n", path], { timeoutMs: 60_000, signal: t.signal });
  const stat = (name: string): Promise<string> => debugfs(path, `stat "${name}"`, t.signal);
  assert.match(await stat("/"), /Mode: +0751/);
  assert.match(await stat("/file"), /Type: regular +Mode: +0640[\s\S]*Links: 2/);
  if (isRoot) for (const name of ["/", "/file"]) assert.match(await stat(name), /User: +1234 +Group: +70000/);
  assert.match(await stat("/link"), /Fast link dest: "\/nowhere"/);
  assert.match(await stat("/ünïcode 日本"), /Type: directory +Mode: +02775/);
  assert.equal(await debugfs(path, "cat /hard", t.signal), "content");
});

test("a directory that does not fit, a missing one and a file are refused, and leave nothing", async (t) => {
  const { dir, root, volumes } = await place(t);
  const tree = join(dir, "tree");
  mkdirSync(tree);
  writeFileSync(join(tree, "big"), Buffer.alloc(80 * MIB, "x"));
  const from = (path: string, sizeBytes?: number) =>
    volumes.create({ name: NAME, from: path, sizeBytes }, t.signal);
  await assert.rejects(from(tree, 64 * MIB), { code: "input.invalid", message: /does not fit/ });
  await assert.rejects(from(join(dir, "none")), { code: "file.not_found" });
  await assert.rejects(from(join(tree, "big")), { code: "file.refused" });
  await assert.rejects(from(dir), { code: "input.invalid", message: /contains the volumes/ });
  await assert.rejects(from("relative"), { code: "input.invalid" });
  await assert.rejects(volumes.create({ name: NAME }, t.signal), { code: "input.invalid", message: /size/ });
  assert.deepEqual(readdirSync(root), []);
  await from(tree, 200 * MIB);
});

test("of two simultaneous creations of a volume one succeeds, and the other fails", async (t) => {
  const { root, volumes } = await place(t);
  const make = () => volumes.create({ name: NAME, sizeBytes: 64 * MIB }, t.signal);
  const outcomes = await Promise.allSettled([make(), make()]);
  assert.deepEqual(outcomes.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
  const reasons = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
  assert.deepEqual(
    reasons.map(({ code }) => code),
    ["name.taken"],
  );
  assert.deepEqual(readdirSync(root), ["data"]);
});

test("the parts of a volume that a killed hearthd was making or removing are removed at the next start", async (t) => {
  const { root, volumes } = await place(t);
  await volumes.create({ name: NAME, sizeBytes: 64 * MIB }, t.signal);
  for (const staging of [".other.0123456789ab", ".data.ba9876543210"]) {
    mkdirSync(join(root, staging));
    writeFileSync(join(root, staging, "volume.raw"), "half");
  }
  assert.deepEqual(
    (await volumes.list()).map(({ name }) => name),
    ["data"],
    "a staging directory is no volume",
  );
  await volumes.cleanUp();
  assert.deepEqual(readdirSync(root), ["data"]);
});

test("other directories are neither removed nor taken for a volume", async (t) => {
  const { root, volumes } = await place(t);
  mkdirSync(join(root, ".data.0123456789ab"));
  mkdirSync(join(root, ".snapshots"));
  writeFileSync(join(root, ".note"), "");
  assert.deepEqual(await volumes.cleanUp(), [".snapshots"]);
  assert.deepEqual(readdirSync(root).toSorted(), [".note", ".snapshots"]);
});

test("a cancelled creation of a volume leaves nothing", async (t) => {
  const { root, volumes } = await place(t);
  const cancelled = AbortSignal.abort(new Error("the user left"));
  await assert.rejects(volumes.create({ name: NAME, sizeBytes: GIB }, cancelled));
  assert.deepEqual(readdirSync(root), []);
  assert.equal(existsSync(join(root, "data")), false);
});

test("a kill while a volume is made or removed leaves a complete volume or none, and no staging directory after the next start", async (t) => {
  for (const removes of [false, true]) {
    await crashAtEachEffect({
      prepare: async () => {
        const made = await place(t);
        if (removes) await made.volumes.create({ name: NAME, sizeBytes: GIB }, t.signal);
        return made;
      },
      operation: ({ volumes }) =>
        removes ? volumes.remove(NAME) : volumes.create({ name: NAME, sizeBytes: GIB }, t.signal),
      check: async ({ root }) => {
        const next = new Volumes(root);
        await next.cleanUp();
        const left = readdirSync(root);
        assert.ok(left.length === 0 || left.join() === NAME, left.join());
        if (left.length === 0) await next.create({ name: NAME, sizeBytes: GIB }, t.signal);
        const { path } = await next.get(NAME);
        await runOrThrow("e2fsck", ["-f", "-n", path], { timeoutMs: 60_000, signal: t.signal });
      },
    });
  }
});
