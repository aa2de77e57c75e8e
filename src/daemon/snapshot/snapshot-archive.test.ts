import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { HearthError } from "#base/error.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { exportSnapshot, importSnapshot } from "#daemon/snapshot/snapshot-archive.ts";
import { checkParts } from "#daemon/snapshot/snapshot-files.ts";
import { withKey } from "#daemon/snapshot/snapshot-shape.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import { run } from "#host/run.ts";
import { statFingerprint } from "#host/verified-files.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import {
  archiveOf,
  exported,
  goodMembers,
  imported,
  inPieces,
  makeHost,
  makeSnapshot,
  NAME,
  OTHER,
  plain,
  refused,
  SMALL,
  SPEC,
  withManifest,
} from "#testing/snapshot-archives.ts";
import type { Manifest } from "#testing/snapshot-archives.ts";

describe("what is exported and imported", () => {
  test("has the same bytes, and all of its record that means something elsewhere", async (t) => {
    const [here, there] = [makeHost(t), makeHost(t)];
    const snapshot = await makeSnapshot(here, SMALL);
    const arrived = await importSnapshot(there, inPieces(await exported(here, snapshot), 777), undefined, {
      onProgress() {},
      signal: t.signal,
    });
    const { dir } = snapshotPaths(there.dirs, arrived.id);
    for (const [name, content] of Object.entries(SMALL))
      assert.ok(readFileSync(join(dir, name)).equals(content), name);
    const { name, vmName, spec, imageDigest, shape, diskFormat, createdAtMs } = snapshot;
    const expected = { name, vmName, spec, imageDigest, shape, diskFormat, createdAtMs };
    assert.deepEqual({ ...arrived, ...expected }, arrived);
    assert.equal(arrived.kind, "named");
    assert.equal(arrived.ready, true);
    assert.notEqual(arrived.id, snapshot.id);
  });

  test("has a memory file whose digest is right at the next use, and read-only files", async (t) => {
    const host = makeHost(t);
    const arrived = await imported(host, await exported(host, await makeSnapshot(host, SMALL)));
    assert.deepEqual(
      arrived.parts.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
      [
        { name: "memory", sizeBytes: SMALL.memory.length },
        { name: "state", sizeBytes: SMALL.state.length },
      ],
    );
    await checkParts(host, arrived, t.signal);
    const { dir } = snapshotPaths(host.dirs, arrived.id);
    for (const part of arrived.parts)
      assert.equal(part.fingerprint, await statFingerprint(join(dir, part.name)));
    for (const name of ["state", "layer-0.raw"])
      assert.equal(statSync(join(dir, name)).mode & 0o222, 0, name);
  });

  test("belongs to no VM of this host, so that none is restored from it", async (t) => {
    const host = makeHost(t);
    const snapshot = await makeSnapshot(host, SMALL);
    assert.notEqual((await imported(host, await exported(host, snapshot))).vmId, snapshot.vmId);
  });

  test("may be a disk alone, and leaves volumes behind", async (t) => {
    const host = makeHost(t);
    const volumes = [{ name: "data", path: "/data", readOnly: false }] as unknown as VmSpec["volumes"];
    const snapshot = await makeSnapshot(
      host,
      { "layer-0.raw": SMALL["layer-0.raw"] },
      { spec: { ...SPEC, volumes } },
    );
    const arrived = await imported(host, await exported(host, snapshot));
    assert.equal(arrived.shape, undefined);
    assert.deepEqual(arrived.parts, []);
    assert.deepEqual(arrived.spec.volumes, []);
  });

  test("drops what was chosen for one host, also by the names of an older Hearth", async (t) => {
    const archive = await withManifest(t, ({ snapshot: { spec } }) => {
      spec["isolation"] = { jail: false, pidNamespace: false, cgroup: false, seccomp: false };
      spec["internal"] = "background";
      spec["sourceSnapshot"] = "sn-aaaaaaaaaaaa";
      spec["hidden"] = "idle";
      spec["blanks"] = [];
      spec["origin"] = "sn-aaaaaaaaaaaa";
      spec["cold"] = true;
    });
    const { spec } = await imported(makeHost(t), archive);
    assert.deepEqual(spec, SPEC);
  });

  test("gets its compatibility key on import", async (t) => {
    const archive = await withManifest(t, ({ snapshot }) => {
      snapshot["shape"] = { driver: "fake", vmm: "fake 2", vm: { cpus: "2", image: "x" } };
    });
    const { shape } = await imported(makeHost(t), archive);
    assert.deepEqual(shape, withKey({ driver: "fake", vmm: "fake 2", vm: { cpus: "2", image: "x" } }));
  });

  test("is reported while it arrives", async (t) => {
    const host = makeHost(t);
    const archive = await exported(host, await makeSnapshot(host, SMALL));
    const told: string[] = [];
    const onProgress = ({ text }: { text: string }): void => void told.push(text);
    await importSnapshot(host, inPieces(archive), OTHER, { onProgress, signal: t.signal });
    assert.deepEqual([...new Set(told)], ["reading memory", "reading state", "reading layer-0.raw"]);
  });
});

describe("holes", () => {
  /** A file of 1 GiB with little data. */
  async function makeSparse(path: string): Promise<void> {
    await using file = await open(path, "wx");
    await file.truncate(GIB);
    await file.write(Buffer.alloc(5000, "a"), 0, 5000, 1234);
    await file.write(Buffer.alloc(5000, "b"), 0, 5000, 700 * MIB + 3);
  }

  test("take nothing on the way, and nothing where they arrive", async (t) => {
    const host = makeHost(t);
    const snapshot = await makeSnapshot(host, { "layer-0.raw": makeSparse });
    const archive = await exported(host, snapshot);
    assert.ok(zstdDecompressSync(archive).length < MIB);
    const arrived = await imported(host, archive);
    const path = join(snapshotPaths(host.dirs, arrived.id).dir, "layer-0.raw");
    const { blocks, size } = statSync(path);
    assert.equal(size, GIB);
    assert.ok(blocks * 512 <= 64 * 1024, `${blocks * 512} bytes`);
    await using file = await open(path);
    const { buffer } = await file.read(Buffer.alloc(5002), 0, 5002, 700 * MIB + 2);
    assert.deepEqual(buffer, Buffer.concat([Buffer.alloc(1), Buffer.alloc(5000, "b"), Buffer.alloc(1)]));
  });

  test("are made also where an archive has zeros", async (t) => {
    const content = Buffer.alloc(8 * MIB);
    content.write("there", 5 * MIB);
    const [manifest] = await goodMembers(t);
    const text = JSON.parse(manifest?.content.toString() ?? "") as Manifest;
    const sha256 = createHash("sha256").update(content).digest("hex");
    text.parts = [{ name: "layer-0.raw", sizeBytes: content.length, sha256 }];
    delete text.snapshot["shape"];
    const members = [
      plain("manifest.json", Buffer.from(JSON.stringify(text))),
      plain("layer-0.raw", content),
    ];
    const host = makeHost(t);
    const { id } = await imported(host, await archiveOf(members));
    const path = join(snapshotPaths(host.dirs, id).dir, "layer-0.raw");
    assert.ok(readFileSync(path).equals(content));
    assert.ok(statSync(path).blocks * 512 <= 8192);
  });

  test("are as GNU tar writes and reads them", async (t) => {
    const [here, there] = [makeHost(t), makeHost(t)];
    const snapshot = await makeSnapshot(here, { ...SMALL, "layer-0.raw": makeSparse });
    const dir = mkdtempSync(join(tmpdir(), "hearth-archive-"));
    t.after(() => rmSync(dir, { recursive: true }));
    writeFileSync(join(dir, "in.tar"), zstdDecompressSync(await exported(here, snapshot)));
    mkdirSync(join(dir, "out"));
    const options = { cwd: join(dir, "out"), timeoutMs: 60_000, signal: t.signal };
    const unpacked = await run("tar", ["--extract", "--file", "../in.tar"], options);
    assert.ok(unpacked.ok, unpacked.stderr);
    const names = ["manifest.json", "memory", "state", "layer-0.raw"];
    assert.deepEqual(readdirSync(options.cwd).toSorted(), names.toSorted());
    assert.ok(readFileSync(join(options.cwd, "memory")).equals(SMALL.memory));
    assert.ok(statSync(join(options.cwd, "layer-0.raw")).blocks * 512 <= 256 * 1024);
    const args = ["--create", "--sparse", "--format=posix", "--file", "../out.tar", ...names];
    const packed = await run("tar", args, options);
    assert.ok(packed.ok, packed.stderr);
    const arrived = await imported(there, zstdCompressSync(readFileSync(join(dir, "out.tar"))));
    const path = join(snapshotPaths(there.dirs, arrived.id).dir, "layer-0.raw");
    assert.equal(statSync(path).size, GIB);
    assert.ok(statSync(path).blocks * 512 <= 64 * 1024);
  });
});

describe("an archive that does not fit here", () => {
  test("does not take a name that is taken", async (t) => {
    const host = makeHost(t);
    const archive = await exported(host, await makeSnapshot(host, SMALL));
    await refused(host, imported(host, archive, NAME), "name.taken", /before/, 1);
  });

  test("needs a name, its own or a given one", async (t) => {
    const host = makeHost(t);
    const warm = await makeSnapshot(host, SMALL, { kind: "warm", name: undefined });
    const archive = await exported(host, warm);
    const call = { onProgress() {}, signal: t.signal };
    const nameless = importSnapshot(host, inPieces(archive), undefined, call);
    await refused(host, nameless, "input.invalid", /no name/, 1);
    assert.equal((await imported(host, archive)).kind, "named");
  });

  test("says which image it needs", async (t) => {
    const host = makeHost(t);
    const archive = await exported(host, await makeSnapshot(host, SMALL));
    host.images.bootSet = () => Promise.reject(new HearthError("image.not_found", "There is no image."));
    const words = /debian:trixie with the digest sha256:0+, which is not in the cache/;
    const { hint } = await refused(host, imported(host, archive), "image.not_found", words, 1);
    assert.match(hint ?? "", /hearth image build debian:trixie/);
  });

  test("says that a newer Hearth wrote it", async (t) => {
    const host = makeHost(t);
    const archive = await withManifest(t, (manifest) => {
      manifest.version = 2;
      manifest.snapshot["invention"] = true;
    });
    await refused(host, imported(host, archive), "snapshot.mismatch", /newer version of Hearth/);
  });
});

describe("work that ends early", () => {
  test("is undone when it is cancelled, and when this host cannot finish it", async (t) => {
    const host = makeHost(t);
    const archive = await exported(host, await makeSnapshot(host, SMALL));
    const cancel = new AbortController();
    const reason = new HearthError("operation.cancelled", "enough");
    const onProgress = (): void => cancel.abort(reason);
    const work = importSnapshot(host, inPieces(archive), OTHER, { onProgress, signal: cancel.signal });
    assert.equal(await refused(host, work, "operation.cancelled", /enough/, 1), reason);
    host.disks.finishLayers = () => Promise.reject(new HearthError("host.tool_missing", "no qemu-img"));
    await refused(host, imported(host, archive), "host.tool_missing", /qemu-img/, 1);
  });

  test("is not ready before it is complete", async (t) => {
    const host = makeHost(t);
    const archive = await exported(host, await makeSnapshot(host, SMALL));
    let seen: boolean | undefined;
    host.disks.finishLayers = async () => void (seen = host.snapshots.find(OTHER)?.ready);
    await imported(host, archive);
    assert.equal(seen, false);
  });

  test("ends with whoever reads an export, and when it is cancelled", async (t) => {
    const host = makeHost(t);
    const snapshot = await makeSnapshot(host, SMALL);
    for await (const chunk of exportSnapshot(host, snapshot, t.signal)) {
      assert.ok(chunk.length > 0);
      break;
    }
    const cancel = new AbortController();
    const reason = new HearthError("operation.cancelled", "enough");
    cancel.abort(reason);
    await assert.rejects(exportSnapshot(host, snapshot, cancel.signal).next(), reason);
  });
});

describe("an incomplete snapshot", () => {
  test("is not exported: nothing comes of it", async (t) => {
    const host = makeHost(t);
    const snapshot = await makeSnapshot(host, SMALL);
    const { dir, memory } = snapshotPaths(host.dirs, snapshot.id);
    const first = (): Promise<unknown> => exportSnapshot(host, snapshot, t.signal).next();
    writeFileSync(memory, "changed");
    await assert.rejects(first, { code: "snapshot.corrupt", message: /memory: its content has changed/ });
    rmSync(memory);
    await assert.rejects(first, { code: "snapshot.corrupt", message: /memory: it is missing/ });
    writeFileSync(memory, SMALL.memory);
    rmSync(join(dir, "layer-0.raw"));
    await assert.rejects(first, { code: "snapshot.corrupt", message: /are not memory, state, layer-0.raw/ });
  });

  test("is not exported when it is the memory of a suspended VM", async (t) => {
    const host = makeHost(t);
    const snapshot = await makeSnapshot(host, SMALL, { kind: "suspended", name: undefined });
    await assert.rejects(exportSnapshot(host, snapshot, t.signal).next(), { code: "feature.missing" });
  });
});
