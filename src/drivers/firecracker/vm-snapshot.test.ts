import assert from "node:assert/strict";
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import { MemoryBase } from "#drivers/firecracker/memory-base.ts";
import { loadVm } from "#drivers/firecracker/vm-snapshot.ts";
import type { BootPlan, SnapshotFiles, SaveHooks, Snapshotter } from "#drivers/vm-driver.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { answerJson } from "#testing/fake-firecracker.ts";
import { FakeFirecrackerVm } from "#testing/fake-firecracker-vm.ts";

const signal = AbortSignal.timeout(60_000);
const NO_HOOKS: SaveHooks = { quiesce: async () => {}, onPaused: async () => {} };

/**
 * The snapshotter of a hearthd that has just started: to one that knows a VM already, all VMs of a test are one
 * process.
 */
function newSnapshotter(): Snapshotter {
  return new FirecrackerDriver({
    find: () => Promise.reject(new Error("There is no boot in this test.")),
    kvm: () => Promise.resolve("works"),
  }).snapshotter;
}

/** Files below the VM's own directory, which removes them. */
function snapshotFiles(vm: FakeFirecrackerVm): SnapshotFiles {
  const dir = join(vm.handle.stateDir, "saved");
  mkdirSync(dir);
  return { memory: join(dir, "memory"), state: join(dir, "state") };
}

function filesOf(vm: FakeFirecrackerVm): string[] {
  return ["save", "saved"].flatMap((name) => readdirSync(join(vm.handle.stateDir, name)));
}

async function fail(): Promise<void> {
  throw new Error("not now");
}

describe("saving a VM", () => {
  test("pauses it only for its files and its disks, and resumes it", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saved = snapshotFiles(vm);
    const seen: string[] = [];
    await newSnapshotter().save(
      vm.handle,
      saved,
      {
        quiesce: async () => void seen.push(`quiesce: ${vm.phase}`),
        onPaused: async () => void seen.push(`paused: ${vm.phase}, ${filesOf(vm).join(" and ")}`),
      },
      signal,
    );
    assert.deepEqual(seen, ["quiesce: Running", "paused: Paused, memory and state"]);
    assert.equal(vm.phase, "Running");
    assert.deepEqual(filesOf(vm), ["memory", "state"]);
    assert.equal(readFileSync(saved.memory, "utf8"), "memory");
    assert.equal(statSync(saved.state).mode & 0o777, 0o444, "VMMs may read it, and none the limit is to it");
  });

  test("that is paused leaves it paused", async () => {
    await using vm = await FakeFirecrackerVm.start();
    vm.phase = "Paused";
    const saved = snapshotFiles(vm);
    await newSnapshotter().save(vm.handle, saved, NO_HOOKS, signal);
    assert.equal(vm.phase, "Paused");
    assert.ok(existsSync(saved.state));
  });

  for (const [what, spoil] of Object.entries<(vm: FakeFirecrackerVm) => Partial<SaveHooks>>({
    "the guest cannot be quiesced": () => ({ quiesce: fail }),
    "its disks cannot be copied": () => ({ onPaused: fail }),
    "Firecracker cannot write": (vm) => {
      rmSync(join(vm.handle.stateDir, "save"), { recursive: true });
      return {};
    },
    "there is no file but a link": (vm) => ({
      onPaused: async () => {
        const state = join(vm.handle.stateDir, "save/state");
        rmSync(state);
        symlinkSync("/etc/passwd", state);
      },
    }),
  })) {
    test(`leaves it as it was, and no file, when ${what}`, async () => {
      await using vm = await FakeFirecrackerVm.start();
      const saved = snapshotFiles(vm);
      const hooks = { ...NO_HOOKS, ...spoil(vm) };
      await assert.rejects(newSnapshotter().save(vm.handle, saved, hooks, signal));
      assert.equal(vm.phase, "Running");
      mkdirSync(join(vm.handle.stateDir, "save"), { recursive: true });
      assert.deepEqual(filesOf(vm), []);
    });
  }

  test("that could not be paused does not resume it", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const { answer } = vm.api;
    vm.api.answer = (request, response) =>
      request.path === "/vm" && request.text.includes("Paused")
        ? answerJson(response, 400, { fault_message: "not now" })
        : answer(request, response);
    await assert.rejects(newSnapshotter().save(vm.handle, snapshotFiles(vm), NO_HOOKS, signal), {
      code: "snapshot.failed",
    });
    assert.deepEqual(
      vm.changes.map(({ body }) => body),
      [{ state: "Paused" }],
    );
  });

  test("leaves files that the VMM does not have open, so that it cannot change what others map", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saved = snapshotFiles(vm);
    const drafts = ["memory", "state"].map((name) => join(vm.handle.stateDir, "save", name));
    const inodes: number[] = [];
    // Kept open, so that no other file gets their inode numbers.
    const open: number[] = [];
    const onPaused = async (): Promise<void> => {
      open.push(...drafts.map((path) => openSync(path, "r")));
      inodes.push(...open.map((fd) => fstatSync(fd).ino));
    };
    await newSnapshotter().save(vm.handle, saved, { ...NO_HOOKS, onPaused }, signal);
    assert.equal(inodes.length, 2);
    for (const path of [saved.memory, saved.state]) assert.ok(!inodes.includes(statSync(path).ino), path);
    for (const fd of open) closeSync(fd);
  });

  test("fails when more than its memory was written, and leaves no file", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saved = snapshotFiles(vm);
    const onPaused = async (): Promise<void> =>
      truncateSync(join(vm.handle.stateDir, "save", "memory"), 1024 * MIB);
    const handle = { ...vm.handle, memoryBytes: 512 * MIB };
    await assert.rejects(
      newSnapshotter().save(handle, saved, { ...NO_HOOKS, onPaused }, signal),
      (error: HearthError) => error.code === "snapshot.failed" && /the limit is/.test(String(error.cause)),
    );
    assert.deepEqual(filesOf(vm), []);
  });

  test("fails before it is paused where its memory has no room", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saving = newSnapshotter().save(
      { ...vm.handle, memoryBytes: 2 ** 60 },
      snapshotFiles(vm),
      NO_HOOKS,
      signal,
    );
    await assert.rejects(saving, { code: "host.disk_full" });
    assert.deepEqual(vm.changes, []);
  });

  describe("that was restored", () => {
    async function restoredVm(vm: FakeFirecrackerVm): Promise<void> {
      const memory = join(vm.handle.stateDir, "template");
      writeFileSync(memory, "template");
      await new MemoryBase(vm.handle.stateDir).keepMapped(memory);
    }
    const typesAsked = (vm: FakeFirecrackerVm): unknown[] =>
      vm.changes.flatMap(({ request, body }) =>
        request === "PUT /snapshot/create" ? [(body as { snapshot_type: string }).snapshot_type] : [],
      );
    const another = (vm: FakeFirecrackerVm, name: string): SnapshotFiles => ({
      memory: join(vm.handle.stateDir, "saved", `${name}-memory`),
      state: join(vm.handle.stateDir, "saved", `${name}-state`),
    });

    test("writes changes into a copy of the memory that it was restored from, and later of the last save", async () => {
      await using vm = await FakeFirecrackerVm.start();
      await restoredVm(vm);
      const first = snapshotFiles(vm);
      await newSnapshotter().save(vm.handle, first, NO_HOOKS, signal);
      assert.equal(readFileSync(first.memory, "utf8"), "template, changed");
      rmSync(first.memory); // A user deletes that snapshot; what the VM needs of it stays.
      const second = another(vm, "second");
      await newSnapshotter().save(vm.handle, second, NO_HOOKS, signal);
      assert.equal(readFileSync(second.memory, "utf8"), "template, changed, changed");
      assert.deepEqual(typesAsked(vm), ["Diff", "Diff"]);
      assert.equal(readFileSync(join(vm.handle.stateDir, "template"), "utf8"), "template");
      assert.equal(statSync(second.memory).mode & 0o777, 0o444);
    });

    for (const version of ["1.14.0", "1.14.1"]) {
      test(`writes everything, each time, with ${version}, whose diffs are corrupt`, async () => {
        await using vm = await FakeFirecrackerVm.start();
        vm.version = version;
        await restoredVm(vm);
        const first = snapshotFiles(vm);
        await newSnapshotter().save(vm.handle, first, NO_HOOKS, signal);
        await newSnapshotter().save(vm.handle, another(vm, "second"), NO_HOOKS, signal);
        assert.deepEqual(typesAsked(vm), ["Full", "Full"]);
        assert.equal(readFileSync(first.memory, "utf8"), "memory");
      });
    }

    test("writes everything after a failed save, because Firecracker has restarted its tracking", async () => {
      await using vm = await FakeFirecrackerVm.start();
      await restoredVm(vm);
      const saved = snapshotFiles(vm);
      await assert.rejects(newSnapshotter().save(vm.handle, saved, { ...NO_HOOKS, onPaused: fail }, signal));
      await newSnapshotter().save(vm.handle, saved, NO_HOOKS, signal);
      assert.equal(readFileSync(saved.memory, "utf8"), "memory");
      assert.deepEqual(typesAsked(vm), ["Diff", "Full"]);
    });

    test("has no base while Firecracker saves, so that none is found after a crash", async () => {
      await using vm = await FakeFirecrackerVm.start();
      await restoredVm(vm);
      const seen: string[] = [];
      const onPaused = async (): Promise<void> => void seen.push(...readdirSync(vm.handle.stateDir));
      await newSnapshotter().save(vm.handle, snapshotFiles(vm), { ...NO_HOOKS, onPaused }, signal);
      assert.deepEqual(seen.toSorted(), ["save", "saved", "template"]);
      assert.ok(readdirSync(vm.handle.stateDir).includes("memory.base"));
    });
  });

  test("fails when it was started without a save directory", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saving = newSnapshotter().save(
      { ...vm.handle, saveDir: undefined },
      snapshotFiles(vm),
      NO_HOOKS,
      signal,
    );
    await assert.rejects(saving, { code: "snapshot.failed", hint: /start it again/ });
    assert.deepEqual(vm.api.asked, []);
  });
});

describe("loading a snapshot", () => {
  const plan = (vm: FakeFirecrackerVm, more: Partial<BootPlan> = {}): BootPlan => ({
    id: vmIdFrom(new Uint8Array(12)),
    name: parseVmName("web"),
    stateDir: vm.handle.stateDir,
    runDir: vm.handle.stateDir,
    kernel: "/vmlinux",
    initramfs: "/initrd",
    kernelArgs: [],
    disks: [
      { id: "base", path: "/base", format: "raw", readOnly: true },
      { id: "own", path: "/own", format: "raw", readOnly: false },
    ],
    cpus: 1,
    memoryBytes: 512 * MIB,
    nics: [],
    init: "agent",
    nested: false,
    isolation: NO_ISOLATION,
    ...more,
  });

  async function saveAndEmpty(vm: FakeFirecrackerVm): Promise<SnapshotFiles> {
    vm.driveIds = ["disk0", "disk1"];
    const saved = snapshotFiles(vm);
    await newSnapshotter().save(vm.handle, saved, NO_HOOKS, signal);
    vm.phase = "Not started";
    return saved;
  }

  function load(vm: FakeFirecrackerVm, saved: SnapshotFiles, more: Partial<BootPlan> = {}): Promise<void> {
    const version = parseFirecrackerVersion("1.12.1");
    const client = new FirecrackerClient({ socketPath: vm.files.api, version });
    return loadVm(client, plan(vm, more), saved, signal);
  }

  test("leaves the vCPUs paused, with the limits of its own plan", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saved = await saveAndEmpty(vm);
    const { disks } = plan(vm);
    await load(vm, saved, {
      disks: disks.map(({ id, path, format, readOnly }) => {
        return { id, path, format, readOnly, limit: id === "own" ? { opsPerS: 100 } : undefined };
      }),
    });
    assert.equal(vm.phase, "Paused");
    assert.deepEqual(vm.changes.at(-1), {
      request: "PATCH /drives/disk1",
      body: {
        drive_id: "disk1",
        rate_limiter: { bandwidth: { size: 0, refill_time: 0 }, ops: { size: 100, refill_time: 1_000 } },
      },
    });
  });

  for (const [what, more] of Object.entries<Partial<BootPlan>>({
    "fewer disks": { disks: [{ id: "base", path: "/base", format: "raw", readOnly: true }] },
    "more memory": { memoryBytes: 513 * MIB },
    "more CPUs": { cpus: 2 },
  })) {
    test(`fails for a VM with ${what}`, async () => {
      await using vm = await FakeFirecrackerVm.start();
      const saved = await saveAndEmpty(vm);
      await assert.rejects(load(vm, saved, more), { code: "snapshot.failed" });
      assert.equal(vm.phase, "Paused");
    });
  }

  for (const [what, lies] of Object.entries<FakeFirecrackerVm["lies"]>({
    "whose disk is another file": { drive: { path_on_host: "/etc/shadow" } },
    "whose disk is served by a socket": { drive: { socket: "/run/other.sock" } },
    "whose disk ignores flushes": { drive: { cache_type: "Unsafe" } },
    "whose shared disk is written to": { drive: { is_read_only: false } },
    "whose disk is the root": { drive: { is_root_device: true } },
    "whose vsock is elsewhere": { vsock: { uds_path: "/run/hearth/vms/other/agent.sock" } },
    "whose vsock has another number": { vsock: { guest_cid: 4 } },
    "that has a network": { more: { "network-interfaces": [{ iface_id: "eth0", host_dev_name: "tap0" }] } },
    "that has persistent memory": { more: { pmem: [{ id: "pmem0", path_on_host: "/etc/shadow" }] } },
    "that has no vsock": { more: { vsock: null } },
  })) {
    test(`fails for a VM state file ${what}, before a guest runs`, async () => {
      await using vm = await FakeFirecrackerVm.start();
      const saved = await saveAndEmpty(vm);
      vm.lies = lies;
      await assert.rejects(load(vm, saved), { code: "snapshot.failed", message: /^Cannot restore the VM/ });
      assert.equal(vm.phase, "Paused");
    });
  }

  test("fails when Firecracker refuses it", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saved = await saveAndEmpty(vm);
    rmSync(saved.state);
    writeFileSync(saved.state, "{");
    await assert.rejects(load(vm, saved), { code: "vmm.failed", message: /CRC64/ });
    assert.equal(vm.phase, "Not started");
  });

  test("fails at once when a file is missing", async () => {
    await using vm = await FakeFirecrackerVm.start();
    const saved = await saveAndEmpty(vm);
    rmSync(saved.memory);
    const failed = { code: "snapshot.failed", message: /is missing/ };
    await assert.rejects(newSnapshotter().finalize(plan(vm), saved, signal), failed);
    await assert.rejects(
      newSnapshotter().restore(plan(vm), saved, () => {}, signal),
      failed,
    );
  });
});
