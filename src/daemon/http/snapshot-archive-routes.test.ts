import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { inspect } from "node:util";
import type { Progress } from "#base/progress.ts";
import { MIB } from "#base/sizes.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import { parseSnapshotName } from "#model/ids.ts";
import type { Hearth } from "#sdk/hearth.ts";
import { localApi } from "#testing/local-api.ts";
import type { LocalApi } from "#testing/local-api.ts";
import type { FakeHost } from "#testing/fake-host.ts";
import { serveDaemon } from "#testing/served-daemon.ts";
import {
  exported,
  inPieces,
  makeHost,
  makeSnapshot,
  NAME,
  refused,
  SMALL,
} from "#testing/snapshot-archives.ts";

type Side = { readonly host: FakeHost; readonly hearth: Hearth; readonly api: LocalApi };

/** A hearthd's API on a socket, as it is served, and a client of it. */
async function serve(t: TestContext): Promise<Side> {
  const served = await serveDaemon(t);
  return { host: served.host, api: localApi(served.daemon), hearth: await served.client() };
}

const OTHER = "arrived";

describe("a snapshot over the API", () => {
  test("goes from one hearthd to another, and tells how far it is", async (t) => {
    const [here, there] = [await serve(t), await serve(t)];
    const snapshot = await makeSnapshot(here.host, SMALL);
    const told: Progress[] = [];
    const archive = await here.hearth.snapshots.export("before");
    const made = await there.hearth.snapshots.import(archive, { onProgress: (one) => told.push(one) });
    assert.deepEqual([made.name, made.vm, made.hasMemory], ["before", "web", true]);
    assert.notEqual(made.id, snapshot.id);
    const { dir } = snapshotPaths(there.host.dirs, there.host.snapshots.get("before").id);
    for (const [name, content] of Object.entries(SMALL))
      assert.ok(readFileSync(join(dir, name)).equals(content), name);
    assert.deepEqual(
      told.map(({ text }) => text),
      ["reading memory", "reading state", "reading layer-0.raw"],
    );
    assert.equal((await there.hearth.snapshots.show("before")).id, made.id);
  });

  test("is the same archive that hearthd makes, and says what it is", async (t) => {
    const { host, hearth, api } = await serve(t);
    const snapshot = await makeSnapshot(host, SMALL);
    const answer = await api.request("/v1/snapshots/before/archive");
    assert.equal(answer.headers.get("content-type"), "application/zstd");
    const whole = await exported(host, snapshot);
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(whole));
    assert.ok((await buffer(await hearth.snapshots.export(snapshot.id))).equals(whole));
  });

  test("may be called import, and takes another name", async (t) => {
    const { host, hearth } = await serve(t);
    const snapshot = await makeSnapshot(host, SMALL, { name: parseSnapshotName("import") });
    const archive = await exported(host, snapshot);
    assert.equal((await hearth.snapshots.show("import")).id, snapshot.id);
    const made = await hearth.snapshots.import(Readable.from(inPieces(archive)), { name: OTHER });
    assert.equal(made.name, OTHER);
    assert.equal((await buffer(await hearth.snapshots.export("import"))).length, archive.length);
  });
});

describe("an export is refused before its first byte", () => {
  for (const kind of ["warm", "suspended"] as const)
    test(`of a ${kind} one, which is no snapshot of a user's`, async (t) => {
      const { host, hearth } = await serve(t);
      const { id } = await makeSnapshot(host, SMALL, { kind, name: undefined });
      await assert.rejects(hearth.snapshots.export(id), { code: "snapshot.not_found" });
    });

  test("of one whose files have changed", async (t) => {
    const { host, hearth } = await serve(t);
    const { id } = await makeSnapshot(host, SMALL);
    truncateSync(join(snapshotPaths(host.dirs, id).dir, "memory"), 1000);
    await assert.rejects(hearth.snapshots.export("before"), { code: "snapshot.corrupt" });
  });
});

/** More bytes than sockets and buffers take, and none that compress. */
const LARGE = { "layer-0.raw": randomBytes(16 * MIB) };

test("an export that breaks later is an error for whoever reads, and no short archive", async (t) => {
  const { host, hearth } = await serve(t);
  t.mock.method(console, "error", () => {}); // The listener's own word.
  const { id } = await makeSnapshot(host, LARGE);
  const archive = await hearth.snapshots.export("before");
  truncateSync(join(snapshotPaths(host.dirs, id).dir, "layer-0.raw"), 1000);
  await assert.rejects(buffer(archive), { code: "daemon.unreachable", message: /ended its response/ });
  const logged = host.machine.events.filter(({ name }) => name === "api.failed");
  assert.equal(logged.length, 1);
  assert.match(inspect(logged[0]), /before\/archive.*became shorter/s);
});

test("an export whose answer has no body, or whose reader goes, keeps no file open", async (t) => {
  const { host, hearth, api } = await serve(t);
  const { id } = await makeSnapshot(host, LARGE);
  const { dir } = snapshotPaths(host.dirs, id);
  assert.equal((await api.request("/v1/snapshots/before/archive", { method: "HEAD" })).status, 200);
  await until(() => openBelow(dir).length === 0);
  const archive = await hearth.snapshots.export("before");
  assert.equal(openBelow(dir).length, 1);
  archive.destroy();
  await until(() => openBelow(dir).length === 0);
});

test("an export that its reader aborts ends with the signal's reason", async (t) => {
  const { host, hearth } = await serve(t);
  await makeSnapshot(host, LARGE);
  const controller = new AbortController();
  const archive = await hearth.snapshots.export("before", { signal: controller.signal });
  controller.abort(new Error("enough"));
  await assert.rejects(buffer(archive), { message: "enough" });
});

describe("an import leaves nothing", () => {
  test("of an archive with one byte that was flipped", async (t) => {
    const { host, hearth } = await serve(t);
    const source = makeHost(t);
    const archive = await exported(source, await makeSnapshot(source, SMALL));
    archive.writeUInt8(archive.readUInt8(archive.length - 30) ^ 1, archive.length - 30);
    const work = hearth.snapshots.import(Readable.from(inPieces(archive)));
    await refused(host, work, "archive.corrupt", /damaged/);
  });

  test("of one that breaks off, wherever it came from", async (t) => {
    const { host, hearth } = await serve(t);
    const source = makeHost(t);
    const archive = await exported(source, await makeSnapshot(source, SMALL));
    const half = archive.subarray(0, archive.length / 2);
    await refused(host, hearth.snapshots.import(Readable.from([half])), "archive.corrupt", /damaged/);
    async function* breaking(): AsyncGenerator<Uint8Array> {
      yield half;
      throw new Error("the disk is gone");
    }
    await assert.rejects(hearth.snapshots.import(Readable.from(breaking())), { message: "the disk is gone" });
    await until(() => host.snapshots.list().length === 0);
  });

  test("of one whose sender aborts", async (t) => {
    const { host, hearth } = await serve(t);
    const source = makeHost(t);
    const archive = await exported(source, await makeSnapshot(source, LARGE));
    const controller = new AbortController();
    const work = hearth.snapshots.import(endless(archive.subarray(0, 4 * MIB), 0), controller);
    await until(() => host.snapshots.list().length === 1);
    controller.abort(new Error("enough"));
    await assert.rejects(work);
    await until(() => host.snapshots.list().length === 0);
  });

  for (const [what, name, code] of [
    ["a name that is none, before anything was read", "Not-a-name", "input.invalid"],
    ["a name that is taken", NAME, "name.taken"],
  ] as const)
    test(`under ${what}, and hears so while it is sent`, async (t) => {
      const { host, hearth } = await serve(t);
      const archive = await exported(host, await makeSnapshot(host, LARGE));
      const stream = endless(archive, 1);
      await refused(host, hearth.snapshots.import(stream, { name }), code, /./, 1);
      assert.ok(stream.destroyed);
    });
});

/** Yields `bytes`, and then nothing or more bytes forever, without an end. */
function endless(bytes: Uint8Array, more: 0 | 1): Readable {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield* inPieces(bytes, MIB);
    for (;;) {
      await sleep(1);
      if (more === 1) yield Buffer.alloc(MIB);
    }
  }
  return Readable.from(chunks(), { objectMode: false });
}

function openBelow(dir: string): string[] {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ""; // The one that lists them.
    }
  });
  return links.filter((path) => path.startsWith(dir));
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await sleep(5);
}
