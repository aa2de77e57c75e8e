import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { truncate, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { SILENT } from "#base/log.ts";
import { sha256 } from "#host/hash-file.ts";
import { run } from "#host/run.ts";
import { ImageCache } from "#images/image-cache.ts";
import type { BuildImage } from "#images/build-image.ts";
import { fakeElf } from "#testing/fake-bzimage.ts";
import { fakeBuild } from "#testing/fake-image-build.ts";
import { startLockHolder } from "#testing/lock-holder.ts";

const quiet = (): void => {};

/** Fails when all but the last step is done. */
const failingBuild: BuildImage = async (input, onProgress, signal) => {
  await fakeBuild(input, onProgress, signal);
  throw new Error("no mirror");
};

type Bed = {
  readonly dir: string;
  readonly agent: string;
  readonly open: (build?: BuildImage) => ImageCache;
};

function makeBed(t: TestContext): Bed {
  const dir = mkdtempSync(join(tmpdir(), "hearth-images-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const agent = join(dir, "agent");
  writeFileSync(agent, "the agent");
  const cacheDir = join(dir, "cache");
  return {
    dir: cacheDir,
    agent,
    open: (build = fakeBuild) => new ImageCache({ cacheDir, agentPath: () => agent, log: SILENT, build }),
  };
}

function staging(dir: string): string[] {
  return readdirSync(join(dir, "tmp"));
}

test("an image is built on first use, and found afterwards, also by another hearthd", async (t) => {
  const bed = makeBed(t);
  const built = await bed.open().ensure("debian", quiet, t.signal);
  assert.equal(built.ref, "debian:bookworm");
  assert.equal(built.current, true);
  const other = bed.open(() => Promise.reject(new Error("built twice")));
  assert.equal((await other.ensure("debian:bookworm", quiet, t.signal)).digest, built.digest);
  assert.deepEqual(await other.list(), [built]);
  assert.deepEqual(await other.get(built.digest), built);
  assert.deepEqual(staging(bed.dir), []);
});

test("eight concurrent callers, in two hearthds, get one build", async (t) => {
  const bed = makeBed(t);
  let builds = 0;
  const counting: BuildImage = (...args) => {
    builds++;
    return fakeBuild(...args);
  };
  const caches = [bed.open(counting), bed.open(counting)];
  const all = Array.from({ length: 8 }, (_, index) => caches[index % 2]?.ensure("debian", quiet, t.signal));
  const digests = new Set((await Promise.all(all)).map((image) => image?.digest));
  assert.equal(builds, 1);
  assert.equal(digests.size, 1);
});

test("a caller waits for a build in another process, and its progress says so", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  await cache.cleanUp();
  const holder = await startLockHolder(join(bed.dir, "locks", "debian@bookworm.lock"), t.signal);
  const told = Promise.withResolvers<string>();
  const image = cache.ensure("debian", ({ text }) => told.resolve(text), t.signal);
  assert.equal(await told.promise, "waiting for another build of debian:bookworm");
  await holder.kill();
  assert.equal((await image).ref, "debian:bookworm");
});

test("a build that fails or is aborted leaves nothing incomplete, and the next one works", async (t) => {
  const bed = makeBed(t);
  await assert.rejects(bed.open(failingBuild).ensure("debian", quiet, t.signal), /no mirror/);
  const abort = new AbortController();
  const endless: BuildImage = async (input, onProgress, signal) => {
    await fakeBuild(input, onProgress, signal);
    abort.abort(new Error("the user left"));
    return Promise.reject(signal.reason as Error);
  };
  await assert.rejects(bed.open(endless).ensure("debian", quiet, abort.signal), /the user left/);
  const cache = bed.open();
  assert.deepEqual(await cache.list(), []);
  await cache.ensure("debian", quiet, t.signal);
  assert.deepEqual(staging(bed.dir), []);
});

test("the rest of a killed build is removed at the next start, and the files of a running one are not", async (t) => {
  const bed = makeBed(t);
  await bed.open().cleanUp();
  for (const name of ["debian@bookworm~aa", "debian@trixie~bb"])
    mkdirSync(join(bed.dir, "tmp", name, "root"), { recursive: true });
  const holder = await startLockHolder(join(bed.dir, "locks", "debian@trixie.lock"), t.signal);
  await bed.open().cleanUp();
  assert.deepEqual(staging(bed.dir), ["debian@trixie~bb"]);
  await holder.kill();
  await bed.open().ensure("debian:trixie", quiet, t.signal);
  assert.deepEqual(staging(bed.dir), []);
});

test("a boot set contains kernel, initramfs and base, and is the same every time", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  const { digest } = await cache.ensure("debian", quiet, t.signal);
  const boot = await cache.bootSet(digest, {}, t.signal);
  assert.equal(boot.kernelRelease, "6.1.0-fake");
  assert.deepEqual(boot.config.cmd, ["/bin/bash"]);
  for (const path of [boot.kernel, boot.initramfs, boot.base]) assert.equal(existsSync(path), true, path);
  assert.deepEqual(await cache.bootSet(digest, { kernel: "6.1.0-fake" }, t.signal), boot);
  assert.deepEqual(await bed.open().bootSet(digest, {}, t.signal), boot);
  const initramfs = readFileSync(boot.initramfs, "latin1");
  assert.ok(initramfs.includes("the agent") && initramfs.includes("virtio.ko\nvirtio_blk.ko\n"));
  await assert.rejects(cache.bootSet(digest, { kernel: "5.0" }, t.signal), { code: "image.not_found" });
});

test("a new agent gets a new initramfs, and nothing else is built again", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  const { digest } = await cache.ensure("debian", quiet, t.signal);
  const before = await cache.bootSet(digest, {}, t.signal);
  writeFileSync(bed.agent, "another agent");
  const after = await cache.bootSet(digest, {}, t.signal);
  assert.notEqual(after.initramfs, before.initramfs);
  assert.equal(after.base, before.base);
  rmSync(bed.agent);
  await assert.rejects(cache.bootSet(digest, {}, t.signal), { code: "host.tool_missing" });
});

test("a file that changed is refused with the fix, at its first use and later, and nothing is deleted", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  const { digest } = await cache.ensure("debian", quiet, t.signal);
  const boot = await cache.bootSet(digest, {}, t.signal);
  const isCorrupt = { code: "image.corrupt", hint: /hearth image rm debian:bookworm && hearth image build/ };
  for (const path of [boot.base, boot.kernel, boot.initramfs]) {
    const whole = readFileSync(path);
    const changed = Buffer.from(whole);
    changed[0] = (changed[0] ?? 0) ^ 1;
    writeFileSync(path, changed);
    await utimes(path, 1, 1);
    await assert.rejects(cache.bootSet(digest, {}, t.signal), isCorrupt, path);
    await assert.rejects(bed.open().bootSet(digest, {}, t.signal), isCorrupt, path);
    await truncate(path, 1);
    await assert.rejects(cache.bootSet(digest, {}, t.signal), isCorrupt, path);
    assert.equal(existsSync(path), true);
    writeFileSync(path, whole);
    await cache.bootSet(digest, {}, t.signal);
  }
});

test("a kernel is unpacked once, when its ELF file is first requested, and removed with its image", async (t) => {
  const bed = makeBed(t);
  const caches = [bed.open(), bed.open()] as const;
  const { digest } = await caches[0].ensure("debian", quiet, t.signal);
  const elfs = join(bed.dir, "kernel-elfs");
  assert.deepEqual(readdirSync(elfs), []);
  const all = Array.from({ length: 8 }, (_, index) => caches[index % 2]!.kernelElf(digest, {}, t.signal));
  const paths = new Set(await Promise.all(all));
  assert.equal(paths.size, 1);
  const [path = ""] = paths;
  assert.deepEqual(readFileSync(path), fakeElf("the kernel"));
  assert.equal(basename(path), `${sha256(fakeElf("the kernel"))}.elf`);
  assert.equal(await bed.open().kernelElf(digest, { kernel: "6.1.0-fake" }, t.signal), path);
  assert.deepEqual(staging(bed.dir), []);
  await caches[0].remove("debian", unused, t.signal);
  assert.deepEqual(readdirSync(elfs), []);
  const again = await caches[0].ensure("debian", quiet, t.signal);
  assert.equal(await caches[0].kernelElf(again.digest, {}, t.signal), path);
});

test("an unpacked kernel that changed is refused with the fix, and one that cannot be unpacked leaves nothing", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  const { digest } = await cache.ensure("debian", quiet, t.signal);
  const path = await cache.kernelElf(digest, {}, t.signal);
  writeFileSync(path, "something else");
  const isCorrupt = { code: "image.corrupt", hint: /hearth image rm debian:bookworm && hearth image build/ };
  await assert.rejects(cache.kernelElf(digest, {}, t.signal), isCorrupt);
  await assert.rejects(bed.open().kernelElf(digest, {}, t.signal), isCorrupt);
  const foreign = makeBed(t);
  const build: BuildImage = async (input, onProgress, signal) => {
    const built = await fakeBuild(input, onProgress, signal);
    writeFileSync(join(input.dir, "kernel", "vmlinuz"), "no bzImage");
    const { files, ...kernel } = built.kernel;
    const hash = { sha256: sha256("no bzImage"), sizeBytes: 10 };
    return { ...built, kernel: { ...kernel, files: files.with(0, { name: "vmlinuz", ...hash }) } };
  };
  const odd = await foreign.open(build).ensure("debian", quiet, t.signal);
  await assert.rejects(foreign.open().kernelElf(odd.digest, {}, t.signal), { code: "kernel.unsupported" });
  assert.deepEqual(staging(foreign.dir), []);
  assert.deepEqual(readdirSync(join(foreign.dir, "kernel-elfs")), []);
});

test("a manifest that changed, or is missing, is refused by the digest", async (t) => {
  const bed = makeBed(t);
  const { digest } = await bed.open().ensure("debian", quiet, t.signal);
  const path = join(bed.dir, "images", digest.slice(7), "manifest.json");
  writeFileSync(path, readFileSync(path, "utf8").replace('"root"', '"evil"'));
  await assert.rejects(bed.open().bootSet(digest, {}, t.signal), { code: "image.corrupt" });
  rmSync(path);
  await assert.rejects(bed.open().bootSet(digest, {}, t.signal), { code: "image.corrupt" });
});

/** The check for an image that no VM uses. */
const unused = (): void => {};

test("a damaged image can be removed and built again", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  const { digest } = await cache.ensure("debian", quiet, t.signal);
  const boot = await cache.bootSet(digest, {}, t.signal);
  await truncate(join(bed.dir, "images", digest.slice(7), "manifest.json"), 3);
  await truncate(boot.kernel, 3);
  await cache.remove("debian", unused, t.signal);
  assert.equal(await cache.find("debian"), undefined);
  assert.deepEqual(await cache.listKernels(), []);
  const again = await cache.ensure("debian", quiet, t.signal);
  await cache.bootSet(again.digest, {}, t.signal);
});

test("removing an image keeps the kernel that another image uses", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  await cache.ensure("debian", quiet, t.signal);
  const other = await cache.ensure("debian-systemd", quiet, t.signal);
  assert.equal((await cache.listKernels()).length, 1);
  await cache.remove("debian", unused, t.signal);
  await cache.bootSet(other.digest, {}, t.signal);
  await cache.remove(other.digest, unused, t.signal);
  assert.deepEqual(await cache.listKernels(), []);
  assert.deepEqual(staging(bed.dir), []);
});

test("between the check that an image is unused and its removal, no VM is made of it", async (t) => {
  const cache = makeBed(t).open();
  const { digest } = await cache.ensure("debian", quiet, t.signal);
  cache.assertThere(digest);
  const used = new Error("a VM was made of it");
  const askedLate = (): never => {
    throw used;
  };
  await assert.rejects(cache.remove(digest, askedLate, t.signal), used);
  cache.assertThere(digest);
  let asked = false;
  const removing = cache.remove(
    digest,
    () => {
      asked = true;
      // In the same turn of the event loop, so that nothing happens in between.
      queueMicrotask(() => assert.throws(() => cache.assertThere(digest), { code: "image.not_found" }));
    },
    t.signal,
  );
  await removing;
  assert.ok(asked);
  assert.throws(() => cache.assertThere(digest), { code: "image.not_found" });
});

test("the name means the rebuilt image, and the older build stays for its VMs", async (t) => {
  const bed = makeBed(t);
  const cache = bed.open();
  const older = await cache.ensure("debian", quiet, t.signal);
  const newer = await cache.rebuild("debian", quiet, t.signal);
  assert.notEqual(newer.digest, older.digest);
  assert.equal((await cache.get("debian")).digest, newer.digest);
  assert.equal((await cache.get(older.digest)).current, false);
  await cache.bootSet(older.digest, {}, t.signal);
});

test("a missing image is named, with the nearest known name", async (t) => {
  const cache = makeBed(t).open();
  await assert.rejects(cache.get("debian"), {
    code: "image.not_found",
    hint: "Build it: hearth image build debian:bookworm",
  });
  await assert.rejects(cache.get("debain"), {
    code: "image.not_found",
    hint: "Did you mean debian:bookworm?",
  });
  await assert.rejects(cache.ensure("windows", quiet, t.signal), { code: "image.not_found" });
  await assert.rejects(cache.remove(`sha256:${"0".repeat(64)}`, unused, t.signal), {
    code: "image.not_found",
  });
});

test(
  "a cache that cannot be written is said to be read-only",
  { skip: process.getuid?.() !== 0 },
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "hearth-read-only-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const options = { timeoutMs: 10_000, signal: t.signal };
    if (!(await run("mount", ["-t", "tmpfs", "-o", "ro", "tmpfs", dir], options)).ok)
      return t.skip("mounting is refused");
    try {
      const cache = new ImageCache({
        cacheDir: dir,
        agentPath: () => "/none",
        log: SILENT,
        build: fakeBuild,
      });
      await assert.rejects(cache.ensure("debian", quiet, t.signal), { code: "host.read_only" });
    } finally {
      await run("umount", [dir], { timeoutMs: 10_000, signal: new AbortController().signal });
    }
  },
);
