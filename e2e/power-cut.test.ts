/**
 * The order of what hearthd does to files: each is on the disk before the row that makes it count, and before the
 * answer.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { endProcess } from "#host/process-end.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";
import { lostByPowerCut, parseTrace, TRACED } from "./file-trace.ts";
import type { FileEvent } from "./file-trace.ts";

const bed = new Bed({ warm: false });
const trace = join(bed.dir, "trace");
const wal = join(bed.dirs.state, "hearth.db-wal");
const snapshots = join(bed.dirs.state, "snapshots");
const skip = whyNot();
let traced: ChildProcess | undefined;

/** Tracing is forbidden in some containers. */
function whyNot(): string | false {
  const tried = spawnSync("strace", ["-f", "--seccomp-bpf", "-o", "/dev/null", "true"], { encoding: "utf8" });
  if (tried.error !== undefined) return "strace is not installed";
  return tried.status === 0 ? false : `strace may not trace here: ${tried.stderr.trim().slice(-200)}`;
}

before(async () => {
  if (skip !== false) return;
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["daemon", "stop"]);
  const daemon = [process.execPath, join(dirname(bed.program), "hearthd.ts")];
  // Only the calls that matter stop a process, so that guests are hardly slower.
  const words = ["-f", "--seccomp-bpf", "-y", "-Y", "-s", "0", "-e", "signal=none", "-e", `trace=${TRACED}`];
  traced = spawn("strace", [...words, "-o", trace, ...daemon], { env: { ...bed.env }, stdio: "ignore" });
  await bed.until(() => existsSync(join(bed.dirs.run, "hearthd.sock")));
});

/** The tracer has the words of a hearthd, too, and lets it live when it ends. */
after(async () => {
  traced?.kill();
  for (let left = bed.daemon(); left !== undefined; left = bed.daemon())
    await endProcess(left, 0, AbortSignal.timeout(30_000));
});

/** All events so far. */
function eventsSoFar(): FileEvent[] {
  return parseTrace(readFileSync(trace, "utf8"));
}

/** Up to the sync of the first commit after `from` that has this text; of the last one without. */
function untilCommit(events: readonly FileEvent[], from: number, text?: string): FileEvent[] {
  const isWal = ({ path }: FileEvent): boolean => path === wal;
  if (text === undefined)
    return events.slice(
      0,
      events.findLastIndex((event) => isWal(event) && event.kind === "synced"),
    );
  const log = readFileSync(wal);
  const has = (event: FileEvent): boolean =>
    isWal(event) &&
    event.kind === "written" &&
    event.at !== undefined &&
    log.subarray(event.at, event.at + 4096).includes(text);
  const written = events.findIndex((event, index) => index >= from && has(event));
  assert.ok(written >= 0, `a commit has ${text}`);
  const synced = events.findIndex(
    (event, index) => index > written && isWal(event) && event.kind === "synced",
  );
  assert.ok(synced >= 0, "and is synced");
  return events.slice(0, synced);
}

let disk = "";
const isDisk = (path: string): boolean =>
  path === disk ||
  (dirname(path) === disk && /^(?:(?:disk|layer-\d+)\.(?:raw|qcow2)|resumed)$/.test(basename(path)));
const isSaved = (path: string): boolean =>
  dirname(path) === snapshots ||
  (/^(?:memory|state|layer-\d+\.\w+|empty\.qcow2)$/.test(basename(path)) &&
    dirname(dirname(path)) === snapshots);
const ofGuest = ({ kind, by }: FileEvent): boolean => kind === "written" && by.startsWith("qemu-system");

/** Where the layer is frozen, the marker set and the new layer put on top: each is on the disk before the next. */
function assertOrder(events: readonly FileEvent[]): void {
  const names = events.flatMap((event) => {
    if (event.kind === "synced" && event.path === disk) return ["sync"];
    if (event.kind === "created" && event.path === join(disk, "resumed")) return ["marker"];
    if (event.kind !== "renamed" || dirname(event.to) !== disk) return [];
    return [basename(event.to).startsWith("layer-") ? "layer" : "top"];
  });
  const steps = names.filter((name, index) => name !== "sync" || names[index - 1] !== "sync");
  const from = steps.indexOf("layer");
  assert.deepEqual(steps.slice(from, from + 6), ["layer", "sync", "marker", "sync", "top", "sync"]);
}

describe("a power cut after the answer", { skip, concurrency: false }, () => {
  test("takes nothing of a VM that was created", async () => {
    await bed.ok(["create", "--no-start", "--name", "web", ...SMALL, "debian"]);
    disk = join(bed.dirs.state, "vms", (await bed.vm("web")).id);
    const events = untilCommit(eventsSoFar(), 0);
    assert.ok(
      events.some(({ kind, path }) => kind === "created" && isDisk(path)),
      "the trace has the disk",
    );
    assert.deepEqual(lostByPowerCut(events, isDisk), []);
  });

  test("takes nothing of a snapshot", async () => {
    await bed.ok(["start", "web"]);
    const from = eventsSoFar().length;
    await bed.ok(["snapshot", "create", "web", "s1"]);
    const events = untilCommit(eventsSoFar(), from, '"sha256"');
    assert.ok(
      events.some(({ path }) => isSaved(path)),
      "the trace has its files",
    );
    assert.deepEqual(lostByPowerCut(events, isSaved), []);
  });

  test("takes nothing of a VM that was suspended: its memory, and what its guest had not flushed", async () => {
    await bed.sh("web", "head -c 1M /dev/urandom > /root/unsynced");
    const from = eventsSoFar().length;
    await bed.ok(["suspend", "web"]);
    const events = untilCommit(eventsSoFar(), from, '"phase":"suspended"');
    assert.deepEqual(
      lostByPowerCut(events, (path) => isSaved(path) || isDisk(path)),
      [],
    );
  });

  test("takes neither the layer nor the marker of one that was resumed, nor brings the marker back when it is suspended", async () => {
    const from = eventsSoFar().length;
    await bed.ok(["resume", "web"]);
    const resumed = eventsSoFar();
    assertOrder(resumed.slice(from));
    assert.ok(resumed.slice(from).some(({ kind, path }) => kind === "created" && path.endsWith("/resumed")));
    assert.deepEqual(
      lostByPowerCut(
        untilCommit(resumed, from).filter((event) => !ofGuest(event)),
        isDisk,
      ),
      [],
    );
    await bed.ok(["suspend", "web"]);
    const events = untilCommit(eventsSoFar(), resumed.length, '"phase":"suspended"');
    assert.ok(
      events.slice(resumed.length).some(({ kind, path }) => kind === "removed" && path.endsWith("/resumed")),
    );
    assert.deepEqual(
      lostByPowerCut(events, (path) => isSaved(path) || isDisk(path)),
      [],
    );
    await bed.ok(["rm", "-f", "web"]);
    await bed.ok(["snapshot", "rm", "s1"]);
    await bed.ok(["daemon", "stop"]);
  });
});
