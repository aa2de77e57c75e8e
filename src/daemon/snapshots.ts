/** Snapshots of VMs: made, listed, removed. What starts from one is a VM like any other. */
import { HearthError, invariant } from "#base/error.ts";
import { chooseDriver, driverOf } from "#daemon/choose-driver.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { SNAPSHOT_VM } from "#daemon/flows/snapshot-vm.ts";
import type { SnapshotPlan, Take } from "#daemon/flows/snapshot-vm.ts";
import { holdForDisk, noSnapshots, runningHandle, saveMemory } from "#daemon/hold-vm.ts";
import type { Guest, Host } from "#daemon/host.ts";
import type { NewSnapshot } from "#daemon/snapshot-rows.ts";
import { sealParts } from "#daemon/snapshot-files.ts";
import { shapeOf } from "#daemon/snapshot-shape.ts";
import { snapshotPaths, snapshotsDir, vmPaths } from "#daemon/vm-paths.ts";
import type { Call, Vms } from "#daemon/vms.ts";
import type { SnapshotFeatures } from "#drivers/vm-driver.ts";
import { parseVmName, snapshotIdFrom, vmIdFrom } from "#model/ids.ts";
import type { SnapshotId, SnapshotName } from "#model/ids.ts";
import type { SnapshotKind, SnapshotRecord } from "#model/snapshot.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VmSpec } from "#model/vm-spec.ts";

export type SnapshotHow = {
  readonly kind: SnapshotKind;
  readonly name?: SnapshotName | undefined;
  /** The disk alone, of a VM that runs, too. One that does not run has nothing else. */
  readonly diskOnly?: boolean | undefined;
  /** Whether it is restored for a trial before it counts. */
  readonly verify?: boolean | undefined;
};

/** What can be done with snapshots. Every method throws HearthError. */
export class Snapshots {
  readonly #host: Host;
  readonly #vms: Vms;

  constructor(host: Host, vms: Vms) {
    this.#host = host;
    this.#vms = vms;
  }

  /** A VM that runs goes on as it was, also when this fails; nothing is left then. */
  async create(nameOrId: string, how: SnapshotHow, call: Call): Promise<SnapshotRecord> {
    const host = this.#host;
    const vm = host.store.getVm(nameOrId);
    const { snapshot, features } = await this.#plan(vm, how, call.signal);
    const { id } = snapshot;
    const paths = snapshotPaths(host.folders, id);
    const { stateDir } = vmPaths(host.folders, vm.id);
    const hasDisk = how.kind !== "suspended";
    const hasMemory = snapshot.shape !== undefined;
    const freeze = (): Promise<void> =>
      hasDisk ? host.disks.freeze(stateDir, paths.dir, call.signal) : Promise.resolve();
    const take: Take = {
      snapshot,
      parts: [],
      save: () =>
        this.#vms.hold(vm.id, call, async (_vm, held, signal) => {
          call.onProgress({ stage: "snapshot", text: "saving" });
          if (held === undefined) return freeze();
          if (hasMemory) return saveMemory(held, paths, freeze, signal);
          return holdForDisk(held, freeze, signal);
        }),
      finishLayers: async () => {
        if (hasDisk) await host.disks.finishLayers(paths.dir, snapshot.diskFormat, call.signal);
      },
      settle: async () => {
        call.onProgress({ stage: "snapshot", text: "checking what was saved" });
        if (hasMemory) await this.#trial(snapshot, call, (trial) => this.#vms.settle(trial, paths, call));
      },
      seal: async () => (features === undefined ? [] : sealParts(host, id, features, call.signal)),
      verify: async () => {
        if (how.verify === true) await this.#trial(snapshot, call, (trial) => this.#verify(trial, call));
      },
    };
    const plan: SnapshotPlan = { snapshotId: id };
    const context = { host, id: vm.id, snapshotId: id, take };
    await runJournaled(host, SNAPSHOT_VM, vm.id, plan, context, call);
    return host.snapshots.get(id);
  }

  /** The VMs that map its memory, or are yet to start from it. */
  usersOf({ id }: Pick<SnapshotRecord, "id">): VmRecord[] {
    return this.#host.store
      .listVms()
      .filter(({ spec, state }) => spec.origin === id || handleOf(state)?.snapshot === id);
  }

  /** @throws HearthError `snapshot.in_use` with the names */
  async remove(nameOrId: string): Promise<void> {
    const snapshot = this.#host.snapshots.get(nameOrId);
    const users = this.usersOf(snapshot).map(({ name }) => name);
    if (users.length > 0) {
      const shown = snapshot.name ?? snapshot.id;
      throw new HearthError("snapshot.in_use", `${shown} is used by ${users.join(", ")}.`, {
        hint: `Stop or remove them first: hearth rm -f ${users.join(" ")}`,
      });
    }
    await this.drop(snapshot.id);
  }

  /** Whoever maps it keeps what it maps. Its row last: until then a hearthd that comes back can go on. */
  async drop(id: SnapshotId): Promise<void> {
    const { folders, files, snapshots } = this.#host;
    snapshots.retire(id);
    await files.removeTree(snapshotsDir(folders), snapshotPaths(folders, id).dir);
    snapshots.delete(id);
  }

  /** After a crash of hearthd: what is not whole goes. */
  async sweep(): Promise<void> {
    const { folders, files, log, snapshots } = this.#host;
    for (const { id, ready } of snapshots.list()) if (!ready) await this.drop(id);
    for (const name of await files.listFolders(snapshotsDir(folders))) {
      if (snapshots.find(name) !== undefined) continue;
      const path = `${snapshotsDir(folders)}/${name}`;
      try {
        await files.removeTree(snapshotsDir(folders), path);
      } catch (error) {
        log.event("clean.left_over", { path, error });
      }
    }
  }

  async #plan(
    vm: VmRecord,
    how: SnapshotHow,
    signal: AbortSignal,
  ): Promise<{ snapshot: NewSnapshot; features: SnapshotFeatures | undefined }> {
    const host = this.#host;
    const handle = runningHandle(vm);
    const driver =
      handle === undefined ? await chooseDriver(host, vm.spec, signal) : driverOf(host, handle.driver);
    const { snapshots, snapshotsRefused } = await driver.features(signal);
    const hasMemory = handle !== undefined && how.diskOnly !== true;
    if (hasMemory && snapshots === undefined) throw noSnapshots(driver.name, snapshotsRefused);
    if (hasMemory && vm.spec.volumes.length > 0) throw hasVolumes(vm);
    // What it was started with, whatever it has been made to do with since.
    const memory = handle && (await driver.ballooner?.readMemory(handle, signal));
    const spec = specOfCopies(vm.spec, driver.name, memory?.maxBytes);
    const shape =
      hasMemory && snapshots !== undefined
        ? await shapeOf(host, { spec, imageDigest: vm.imageDigest }, driver.name, snapshots, signal)
        : undefined;
    const snapshot: NewSnapshot = {
      id: snapshotIdFrom(host.random(12)),
      kind: how.kind,
      name: how.name,
      vmId: vm.id,
      vmName: vm.name,
      spec,
      imageDigest: vm.imageDigest,
      shape,
      diskFormat: snapshots?.diskFormat ?? "raw",
      parts: [],
      createdAtMs: host.now(),
    };
    return { snapshot, features: shape && snapshots };
  }

  /** A VM of hearthd's own, from this snapshot, for as long as `work` takes. */
  async #trial(snapshot: NewSnapshot, call: Call, work: (trial: VmRecord) => Promise<void>): Promise<void> {
    const host = this.#host;
    const id = vmIdFrom(host.random(12));
    const trial = await this.#vms.make(
      {
        id,
        name: parseVmName(`hearth-${id.slice(3)}`),
        spec: { ...snapshot.spec, origin: snapshot.id, hidden: true, autoRemove: true },
        imageDigest: snapshot.imageDigest,
        state: { phase: "created" },
        bound: true,
      },
      call,
    );
    try {
      await work(trial);
    } finally {
      await this.#vms.discard(trial.id);
    }
  }

  async #verify(trial: VmRecord, call: Call): Promise<void> {
    await this.#vms.start(trial.id, call);
    const { guest } = await this.#vms.guest(trial.id, "exec", call.signal);
    await runTrue(guest, call.signal);
  }
}

/** What VMs that are made from a snapshot have of the one that was saved. */
function specOfCopies(spec: VmSpec, driver: string, memoryBytes: number | undefined): VmSpec {
  const { lifetimeMs: _lifetime, origin: _origin, cold: _cold, hidden: _hidden, ...kept } = spec;
  return { ...kept, memoryBytes: memoryBytes ?? spec.memoryBytes, driver, autoRemove: false };
}

function hasVolumes(vm: VmRecord): HearthError {
  const names = vm.spec.volumes.map(({ name }) => name).join(", ");
  return new HearthError("feature.missing", `${vm.name} has volumes (${names}), which are not in a snapshot.`, {
    hint: "Others may change them meanwhile, and the saved memory would not fit. Use --disk-only.",
  });
}

/** The first command in a guest that was restored: if there is one, there is another. */
async function runTrue(guest: Guest, signal: AbortSignal): Promise<void> {
  const command = { argv: ["true"], env: {}, stdin: false, detach: false };
  let code: number | undefined;
  for await (const event of guest.exec(command, { id: "verify" }, signal))
    if (event.type === "exited") code = event.code;
  invariant(code === 0, `a restored guest runs \`true\`, and not with ${code}`);
}
