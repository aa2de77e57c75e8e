/** Archives of snapshots, good ones and ones that a test has spoiled. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { extract, pack } from "tar-stream";
import type { Header } from "tar-stream";
import { HearthError } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { exportSnapshot, importSnapshot } from "#daemon/snapshot/snapshot-archive.ts";
import { withKey } from "#daemon/snapshot/snapshot-shape.ts";
import { snapshotPaths, snapshotsDir } from "#daemon/store/paths.ts";
import { hashFile } from "#host/hash-file.ts";
import { statFingerprint } from "#host/verified-files.ts";
import { parseSnapshotName, parseVmName, snapshotIdFrom, vmIdFrom } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { FAKE_DIGEST, FakeHost, FakeMachine } from "#testing/fake-host.ts";

export const SPEC: VmSpec = {
  image: parseImageRef("debian:trixie"),
  cpus: 2,
  memoryBytes: GIB,
  diskBytes: 8 * GIB,
  volumes: [],
  network: "nat",
  init: "agent",
  nested: false,
  diskLimit: { bandwidthBytesPerS: 10 * MIB },
  driver: "fake",
  bootArgs: ["quiet"],
  env: { LANG: "C.UTF-8" },
  isolation: FULL_ISOLATION,
  autoRemove: false,
};
export const SHAPE = withKey({ driver: "fake", vmm: "fake 1", vm: { image: FAKE_DIGEST, cpus: "2" } });
export const NAME = parseSnapshotName("before");
export const OTHER = parseSnapshotName("arrived");

export type Member = { readonly header: Partial<Header> & Pick<Header, "name">; readonly content: Buffer };
export type Manifest = {
  version: number;
  snapshot: Record<string, unknown> & { spec: Record<string, unknown> };
  parts: { name: string; sizeBytes: number; sha256: string }[];
};

/** Gone when the test is over. */
export function makeHost(t: TestContext): FakeHost {
  const machine = new FakeMachine();
  t.after(() => machine[Symbol.dispose]());
  return new FakeHost(machine);
}

/** A snapshot that is ready, with these files in its directory. */
export async function makeSnapshot(
  host: FakeHost,
  files: Readonly<Record<string, Buffer | ((path: string) => Promise<void>)>>,
  more: Partial<SnapshotRecord> = {},
): Promise<SnapshotRecord> {
  const id = snapshotIdFrom(host.random(12));
  const { dir } = snapshotPaths(host.dirs, id);
  await host.files.makeDir(dir);
  for (const [name, content] of Object.entries(files)) {
    if (typeof content === "function") await content(join(dir, name));
    else writeFileSync(join(dir, name), content);
  }
  const parts = [];
  const { signal } = new AbortController();
  for (const name of ["memory", "state"] as const) {
    if (!(name in files)) continue;
    const fingerprint = (await statFingerprint(join(dir, name))) ?? "";
    parts.push({ name, fingerprint, ...(await hashFile(join(dir, name), signal)) });
  }
  const shape = parts.length > 0 ? SHAPE : undefined;
  const vm = { vmId: vmIdFrom(host.random(12)), vmName: parseVmName("web") };
  const record = { id, kind: "named", name: NAME, ...vm, spec: SPEC, imageDigest: FAKE_DIGEST } as const;
  host.snapshots.insert({
    ...record,
    shape,
    diskFormat: "raw",
    parts: [],
    createdAtMs: 1_700_000_000_000,
    ...more,
  });
  host.snapshots.setReady(id, parts);
  return host.snapshots.get(id);
}

export const SMALL = {
  memory: Buffer.concat([Buffer.alloc(200_000), Buffer.from("remembered"), Buffer.alloc(70_001)]),
  state: Buffer.from("how it was"),
  "layer-0.raw": Buffer.concat([Buffer.alloc(MIB, "disk"), Buffer.alloc(MIB)]),
};

/** All of its archive. */
export async function exported(host: FakeHost, snapshot: SnapshotRecord): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const { signal } = new AbortController();
  for await (const chunk of exportSnapshot(host, snapshot, signal)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** As it comes over a connection. */
export async function* inPieces(archive: Uint8Array, bytes = 10_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < archive.length; at += bytes) yield archive.subarray(at, at + bytes);
}

/** Imports an archive on this host. */
export function imported(host: FakeHost, archive: Uint8Array, name = OTHER): Promise<SnapshotRecord> {
  const { signal } = new AbortController();
  return importSnapshot(host, inPieces(archive), name, { onProgress() {}, signal });
}

/** Refused like this, and nothing is left beside the `kept` snapshots. */
export async function refused(
  host: FakeHost,
  work: Promise<unknown>,
  code: ErrorCode,
  words: RegExp,
  kept = 0,
): Promise<HearthError> {
  const error: unknown = await work.then(
    () => assert.fail("it was taken"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof HearthError, String(error));
  assert.equal(error.code, code);
  const cause = error.cause instanceof Error ? error.cause.message : "";
  assert.match(`${error.message}: ${cause}`, words);
  assert.equal(host.snapshots.list().length, kept);
  const root = snapshotsDir(host.dirs);
  assert.equal(existsSync(root) ? readdirSync(root).length : 0, kept);
  assert.deepEqual(
    host.machine.events.filter(({ name }) => name === "clean.left_over"),
    [],
  );
  return error;
}

/** Lists the members of an archive, as it is stored. */
export async function membersOf(archive: Buffer): Promise<Member[]> {
  const tar = extract();
  tar.end(zstdDecompressSync(archive));
  const members: Member[] = [];
  for await (const entry of tar) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry as unknown as AsyncIterable<Buffer>) chunks.push(chunk);
    members.push({ header: entry.header, content: Buffer.concat(chunks) });
  }
  return members;
}

/** An archive with these members, whatever they are. */
export async function archiveOf(members: readonly Member[]): Promise<Buffer> {
  const tar = pack();
  for (const { header, content } of members) {
    const isFile = (header.type ?? "file") === "file";
    if (isFile) tar.entry({ ...header, size: content.length }, content);
    else tar.entry({ ...header, size: 0 });
  }
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as unknown as AsyncIterable<Buffer>) chunks.push(chunk);
  return zstdCompressSync(Buffer.concat(chunks));
}

/** A good archive's members, for a test to spoil. */
export async function goodMembers(t: TestContext): Promise<Member[]> {
  const host = makeHost(t);
  return membersOf(await exported(host, await makeSnapshot(host, SMALL)));
}

/** A good archive but for its manifest. */
export async function withManifest(t: TestContext, change: (manifest: Manifest) => void): Promise<Buffer> {
  const [first, ...rest] = await goodMembers(t);
  assert.ok(first);
  const manifest = JSON.parse(first.content.toString()) as Manifest;
  change(manifest);
  return archiveOf([{ ...first, content: Buffer.from(JSON.stringify(manifest)) }, ...rest]);
}

/** A plain member in the place of the one with holes. */
export function plain(name: string, content: Buffer): Member {
  return { header: { name, type: "file" }, content };
}

/** Returns a member that exists. */
export function member(members: readonly Member[], index: number): Member {
  const found = members[index];
  assert.ok(found);
  return found;
}
