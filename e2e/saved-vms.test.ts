/**
 * Tests a snapshot of a whole guest, where the contract's tiny guests show too little: its agent is reached again,
 * its disk fits its memory, and what was saved serves several.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { SILENT } from "#base/log.ts";
import { MIB } from "#base/sizes.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import type { BootPlan, DiskPlan, SnapshotFiles } from "#drivers/vm-driver.ts";
import { reachAgent } from "#guest/wait-for-agent.ts";
import { runOrThrow } from "#host/run.ts";
import { ImageCache } from "#images/image-cache.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { diskFromSnapshot, finishLayers, freezeDisk } from "#storage/disk-layers.ts";
import { findDisk } from "#storage/disk-layout.ts";
import { createDisk } from "#storage/disks.ts";
import { testedQemu } from "./tested-qemu.ts";
import { QEMU_IMG } from "#testing/tools.ts";

const ROOT = join(import.meta.dirname, "..");
const AGENT_MS = 90_000;
const signal = AbortSignal.timeout(600_000);
const dir = mkdtempSync(join(tmpdir(), "hs-"));
const driver = new QemuDriver({ program: testedQemu(), accel: "tcg" });
const running: VmHandle[] = [];

after(async () => {
  for (const vm of running) await driver.stop(vm, "kill", signal);
  rmSync(dir, { recursive: true });
});

const cache = new ImageCache({
  cacheDir: join(process.env["HEARTH_E2E_CACHE"] ?? join(homedir(), ".cache", "hearth-e2e"), "hearth"),
  agentPath: (arch) => join(ROOT, "build/agent", `hearth-agent-${arch}`),
  log: SILENT,
});

/** Returns the plan of a VM with its directory, and a disk in it. */
async function planOf(name: string): Promise<BootPlan> {
  const { digest } = await cache.ensure(parseImageRef("debian"), () => {}, signal);
  const boot = await cache.bootSet(digest, {}, signal);
  const stateDir = join(dir, name);
  const { path, format, layers } = findDisk(stateDir);
  const shared = (id: string, shown: string): DiskPlan => ({
    id,
    path: shown,
    format: "raw",
    readOnly: true,
  });
  const { modules } = boot;
  return {
    id: vmIdFrom(Buffer.alloc(12, running.length)),
    name: parseVmName(name),
    stateDir,
    runDir: join(stateDir, "run"),
    saveDir: join(stateDir, "save"),
    kernel: boot.kernel,
    initramfs: boot.initramfs,
    kernelArgs: [
      "hearth.root=overlay",
      "hearth.init=agent",
      ...(modules === undefined ? [] : ["hearth.modules=/dev/vdc"]),
    ],
    disks: [
      shared("base", boot.base),
      { id: "own", path, format, backing: layers, readOnly: false },
      ...(modules === undefined ? [] : [shared("modules", modules)]),
    ],
    cpus: 1,
    memoryBytes: 512 * MIB,
    nics: [],
    init: "agent",
    nested: false,
    isolation: NO_ISOLATION,
  };
}

function makeDirs(name: string): string {
  for (const part of ["run", "save"]) mkdirSync(join(dir, name, part), { recursive: true, mode: 0o700 });
  return join(dir, name);
}

async function restored(name: string, saved: SnapshotFiles): Promise<VmHandle> {
  await diskFromSnapshot(dirname(saved.memory), makeDirs(name), "qcow2", signal);
  const vm = await driver.snapshotter.restore(await planOf(name), saved, () => {}, signal);
  running.push(vm);
  return vm;
}

/** On a connection of its own, as a hearthd that found the VM again. */
async function sh(vm: VmHandle, script: string): Promise<string> {
  const agent = await reachAgent(vm, { deadlineMs: AGENT_MS }, signal);
  let out = "";
  const command = { argv: ["sh", "-c", script], env: {}, stdin: false, detach: false };
  for await (const event of agent.exec(command, { id: "test" }, signal))
    if (event.type === "stdout") out += Buffer.from(event.bytes).toString();
  agent.close();
  return out;
}

/** In kB: what is its own, or shared with nobody, and its share of the rest. */
function pssKb(vm: VmHandle): number {
  const rollup = readFileSync(`/proc/${vm.processes[0].pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s*(\d+)/m.exec(rollup)?.[1]);
}

let source: VmHandle;
const saved = { memory: join(dir, "saved", "memory"), state: join(dir, "saved", "state") };

before(async () => {
  await createDisk(join(makeDirs("source"), "disk.raw"), 1024 * MIB, signal);
  source = await driver.boot(await planOf("source"), () => {}, signal);
  running.push(source);
  await sh(source, "echo on disk > /root/note; sync; echo in memory > /run/note");
  mkdirSync(dirname(saved.memory));
});

test("a VM is saved with its disk, and keeps running", async (t) => {
  let pausedAtMs = 0;
  const hooks = {
    quiesce: async () => void (pausedAtMs = performance.now()),
    onPaused: () => freezeDisk(join(dir, "source"), dirname(saved.memory), signal),
  };
  const startMs = performance.now();
  await driver.snapshotter.save(source, saved, hooks, signal);
  const endMs = performance.now();
  t.diagnostic(
    `save ${Math.round(endMs - startMs)} ms, ${Math.round(endMs - pausedAtMs)} of them halted at most`,
  );
  await finishLayers(dirname(saved.memory), "qcow2", QEMU_IMG, signal);
  await diskFromSnapshot(dirname(saved.memory), makeDirs("trial"), "qcow2", signal);
  await driver.snapshotter.finalize(await planOf("trial"), saved, signal);
  assert.equal(await sh(source, "echo later > /root/note; cat /root/note"), "later\n");
});

test("a snapshot can be restored with its memory and its disk any number of times", async (t) => {
  const startMs = performance.now();
  const one = await restored("one", saved);
  const runsMs = performance.now();
  assert.equal(await sh(one, "cat /root/note /run/note"), "on disk\nin memory\n");
  t.diagnostic(
    `restore ${Math.round(runsMs - startMs)} ms, first command after ${Math.round(performance.now() - startMs)}`,
  );
  const other = await restored("other", saved);
  await sh(one, "echo its own > /root/note");
  assert.equal(await sh(other, "cat /root/note /run/note"), "on disk\nin memory\n");
  assert.equal(await sh(source, "cat /root/note"), "later\n");
  t.diagnostic(`PSS: restored ${pssKb(one)} and ${pssKb(other)} kB, booted ${pssKb(source)} kB`);
});

test("the file system that a VM was saved with is clean, or its journal makes it so", async () => {
  const layer = findDisk(join(dir, "one")).layers[0] ?? "";
  const replayed = join(dir, "replayed.raw");
  await runOrThrow("cp", ["--sparse=always", layer, replayed], { timeoutMs: 60_000, signal });
  await runOrThrow("chmod", ["600", replayed], { timeoutMs: 60_000, signal });
  // As a guest's mount does; it fails on anything that the journal does not mend.
  await runOrThrow("e2fsck", ["-p", replayed], { timeoutMs: 60_000, signal });
  await runOrThrow("e2fsck", ["-fn", replayed], { timeoutMs: 60_000, signal });
});
