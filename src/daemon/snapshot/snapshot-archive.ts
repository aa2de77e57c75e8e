/**
 * Exports a snapshot as one file, and imports it on another host: a tar, compressed with zstd, of its manifest and then
 * its files.
 *
 *     manifest.json   memory   state   layer-0.raw   layer-1.qcow2 …
 *
 * Holes stay holes on the way. An archive is not trusted: see `src/host/sparse-tar.ts` for the checks of the tar,
 * `snapshot-manifest.ts` for those of the manifest, and `src/storage/qcow2-header.ts` for those of the disk's layers.
 */
import { chmod, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { pack } from "tar-stream";
import type { Pack } from "tar-stream";
import { HearthError, invariant, toError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import { Undo } from "#base/undo.ts";
import { ArchiveReader } from "#daemon/snapshot/archive-reader.ts";
import type { Host } from "#daemon/host.ts";
import { corruptSnapshot } from "#daemon/snapshot/snapshot-files.ts";
import { LAYER_NAMES, MANIFEST_NAME, manifestOf } from "#daemon/snapshot/snapshot-manifest.ts";
import type { ArchivedPart, SnapshotManifest } from "#daemon/snapshot/snapshot-manifest.ts";
import type { NewSnapshot } from "#daemon/store/snapshot-rows.ts";
import { withKey } from "#daemon/snapshot/snapshot-shape.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import type { Call } from "#daemon/vm/vms.ts";
import type { FileScan } from "#host/sparse-file.ts";
import { packSparse, unpackSparse } from "#host/sparse-tar.ts";
import { syncPath } from "#host/atomic-file.ts";
import { statFingerprint } from "#host/verified-files.ts";
import { snapshotIdFrom, vmIdFrom } from "#model/ids.ts";
import type { SnapshotName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import type { SnapshotPart, SnapshotRecord } from "#model/snapshot.ts";
import { proveLayer } from "#storage/qcow2-header.ts";

/** Adds a checksum: a byte that changed on the way is found wherever it is, also between the files. */
const COMPRESSION = { [constants.ZSTD_c_checksumFlag]: 1, [constants.ZSTD_c_compressionLevel]: 3 };
/** The manifest has the time of the snapshot. With a fixed time here, one snapshot always gives the same archive. */
const MTIME = new Date(0);
const OUTPUT_CHUNK_BYTES = 256 * 1024;
/** The bytes between two reports of progress. */
const PROGRESS_BYTES = 64 * 1024 * 1024;

type ScannedPart = { readonly name: string; readonly path: string; readonly scan: FileScan };

/**
 * Yields the archive of a snapshot. The manifest is the first member, so every file is read and hashed before the first
 * byte is yielded, and damage is thrown before that byte.
 * @throws HearthError `snapshot.corrupt` when a file is not as it was saved, `feature.missing` for the memory of a
 * suspended VM, which has no disk
 */
export async function* exportSnapshot(
  host: Host,
  snapshot: SnapshotRecord,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  if (snapshot.kind === "suspended")
    throw new HearthError(
      "feature.missing",
      `Cannot export ${snapshot.id}: it is the memory of a suspended VM, without a disk.`,
      {
        hint: `Create a snapshot of the VM, and export that: hearth snapshot create ${snapshot.vmName}`,
      },
    );
  const parts = await scanParts(host, snapshot, signal);
  const manifest = describe(host, snapshot, parts);
  const tar = pack();
  const packed = createZstdCompress({ params: COMPRESSION, chunkSize: OUTPUT_CHUNK_BYTES });
  const flowing = pipeline(tar, packed, { signal });
  const filling = fill(tar, manifest, parts, signal);
  // Every error passes through the stream that is read below.
  flowing.catch(() => undefined);
  filling.catch((error: unknown) => tar.destroy(error as Error));
  try {
    yield* packed;
    await filling;
    await flowing;
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    tar.destroy();
    packed.destroy();
  }
}

async function scanParts(
  host: Host,
  snapshot: SnapshotRecord,
  signal: AbortSignal,
): Promise<readonly ScannedPart[]> {
  const { dir } = snapshotPaths(host.dirs, snapshot.id);
  const files = await readdir(dir);
  const layers = files.filter((name) => name.startsWith("layer-")).toSorted();
  const names = [...(snapshot.shape === undefined ? [] : ["memory", "state"]), ...layers];
  const parts: ScannedPart[] = [];
  for (const name of names) {
    const path = join(dir, name);
    const shown = snapshot.name ?? snapshot.id;
    if (!files.includes(name)) throw corruptSnapshot(path, shown, "it is missing");
    const scan = await host.disks.scan(path, signal);
    const saved = snapshot.parts.find((part) => part.name === name);
    if (saved !== undefined && saved.sha256 !== scan.sha256)
      throw corruptSnapshot(path, shown, "its content has changed since the snapshot was created");
    parts.push({ name, path, scan });
  }
  return parts;
}

function describe(host: Host, snapshot: SnapshotRecord, parts: readonly ScannedPart[]): string {
  const listed = parts.map(({ name, scan: { sizeBytes, sha256 } }) => ({ name, sizeBytes, sha256 }));
  try {
    return manifestOf(snapshot, listed);
  } catch (error) {
    const { dir } = snapshotPaths(host.dirs, snapshot.id);
    throw corruptSnapshot(dir, snapshot.name ?? snapshot.id, toError(error).message);
  }
}

async function fill(
  tar: Pack,
  manifest: string,
  parts: readonly ScannedPart[],
  signal: AbortSignal,
): Promise<void> {
  tar.entry({ name: MANIFEST_NAME, mode: 0o600, mtime: MTIME }, manifest);
  for (const { name, path, scan } of parts) await packSparse(tar, name, path, scan, MTIME, signal);
  tar.finalize();
}

/**
 * Imports an archive of any origin as a new snapshot. A failed import leaves nothing.
 * @param name in place of the one in the archive
 * @throws HearthError `archive.corrupt` with the part that is not as the manifest says, `name.taken`,
 * `image.not_found`, `snapshot.mismatch` for an archive of a newer Hearth, `input.invalid` where there is no name
 */
export async function importSnapshot(
  host: Host,
  body: AsyncIterable<Uint8Array>,
  name: SnapshotName | undefined,
  call: Pick<Call, "onProgress" | "signal">,
): Promise<SnapshotRecord> {
  using archive = new ArchiveReader(body, call.signal);
  const manifest = await archive.manifest();
  const snapshot = newSnapshot(host, manifest, name);
  await assertImage(host, snapshot, call.signal);
  const { id } = snapshot;
  const { dir } = snapshotPaths(host.dirs, id);
  await using undo = new Undo((_what, error) => host.log.event("clean.left_over", { path: dir, error }));
  host.snapshots.insert(snapshot);
  undo.add("row", () => host.snapshots.delete(id));
  undo.add("dir", () => host.files.removeTree(snapshotsDir(host.dirs), dir));
  await host.files.makeDir(dir);
  await receiveParts(archive, manifest.parts, dir, call);
  await archive.end();
  await host.disks.finishLayers(dir, snapshot.diskFormat, call.signal);
  host.snapshots.setReady(id, await sealReceived(host, snapshot, manifest.parts));
  undo.keep();
  return host.snapshots.get(id);
}

function newSnapshot(
  host: Host,
  { snapshot: { shape, ...saved } }: SnapshotManifest,
  given: SnapshotName | undefined,
): NewSnapshot {
  const name = given ?? saved.name;
  if (name === undefined)
    throw new HearthError("input.invalid", "The snapshot in the archive has no name.", {
      hint: "Give it a name with --name.",
    });
  return {
    ...saved,
    id: snapshotIdFrom(host.random(12)),
    kind: "named",
    name,
    // An id of no VM here: an archive must not choose the VM that is restored from it.
    vmId: vmIdFrom(host.random(12)),
    shape: shape && withKey(shape),
    parts: [],
  };
}

async function assertImage(
  host: Host,
  { imageDigest, spec }: NewSnapshot,
  signal: AbortSignal,
): Promise<void> {
  try {
    await host.images.bootSet(imageDigest, { kernel: spec.kernel }, signal);
  } catch (cause) {
    if (!(cause instanceof HearthError) || cause.code !== "image.not_found") throw cause;
    const message = `The snapshot needs the image ${spec.image} with the digest ${imageDigest}, which is not in the cache.`;
    const hint = `Build it: hearth image build ${spec.image}. If that gives another digest, copy the image from the other host.`;
    throw new HearthError("image.not_found", message, { hint, cause });
  }
}

async function receiveParts(
  archive: ArchiveReader,
  parts: readonly ArchivedPart[],
  dir: string,
  { onProgress, signal }: Pick<Call, "onProgress" | "signal">,
): Promise<void> {
  const totalBytes = parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  let beforeBytes = 0;
  for (const { name, sizeBytes, sha256 } of parts) {
    const report = reporter(onProgress, name, beforeBytes, totalBytes);
    await archive.receive(name, async (member) => {
      const found = await unpackSparse(member, join(dir, name), sizeBytes, report, signal);
      if (found.sha256 !== sha256) throw new Error("its sha256 is not the one in the manifest");
      await checkLayer(dir, name);
    });
    beforeBytes += sizeBytes;
  }
}

function reporter(
  onProgress: OnProgress,
  name: string,
  beforeBytes: number,
  totalBytes: number,
): (position: number) => void {
  let next = 0;
  return (position) => {
    if (position < next) return;
    next = position + PROGRESS_BYTES;
    const doneBytes = beforeBytes + position;
    onProgress({ stage: "snapshot", text: `reading ${name}`, doneBytes, totalBytes });
  };
}

async function checkLayer(dir: string, name: string): Promise<void> {
  if (!name.endsWith(".qcow2")) return;
  const below = LAYER_NAMES[LAYER_NAMES.indexOf(name) - 1];
  invariant(below, "the lowest layer is raw");
  const belowFormat = below.endsWith(".raw") ? "raw" : "qcow2";
  await proveLayer(join(dir, name), { below, belowFormat, maxBytes: LIMITS.diskMaxBytes });
}

/** Makes the files read-only. They were hashed as they were written. */
async function sealReceived(
  host: Host,
  { id, shape }: NewSnapshot,
  parts: readonly ArchivedPart[],
): Promise<SnapshotPart[]> {
  const paths = snapshotPaths(host.dirs, id);
  for (const { name } of parts) if (name !== "memory") await chmod(join(paths.dir, name), 0o444);
  if (shape !== undefined) await host.helper.sealMemory(id);
  for (const { name } of parts) await syncPath(join(paths.dir, name));
  await syncPath(paths.dir);
  if (shape === undefined) return [];
  const sealed: SnapshotPart[] = [];
  for (const { name, sizeBytes, sha256 } of parts) {
    if (name !== "memory" && name !== "state") continue;
    const fingerprint = await statFingerprint(paths[name]);
    invariant(fingerprint !== undefined, `${name} was just written`);
    sealed.push({ name, sizeBytes, sha256, fingerprint });
  }
  return sealed;
}
