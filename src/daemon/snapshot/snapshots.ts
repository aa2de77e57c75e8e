/** Creates, lists and removes snapshots, suspends VMs, and restores them. */
import { failAfter, withCleanUp } from "#base/clean-up.ts";
import { HearthError, invariant } from "#base/error.ts";
import { chooseDriver, driverOf } from "#daemon/spec/choose-driver.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { SNAPSHOT_VM } from "#daemon/flows/snapshot-flow.ts";
import type { SnapshotPlan, SnapshotWork } from "#daemon/flows/snapshot-flow.ts";
import type { LiveVm } from "#daemon/snapshot/quiesce-vm.ts";
import {
  quiesceForDisk,
  noSnapshots,
  runningHandle,
  saveMemory,
  resumeLiveVm,
} from "#daemon/snapshot/quiesce-vm.ts";
import { runInGuest } from "#daemon/vm/run-in-guest.ts";
import { internalVm } from "#daemon/spec/internal-vm.ts";
import type { Host } from "#daemon/host.ts";
import { assertSaves, readMemoryOf } from "#daemon/spec/lacking-features.ts";
import type { NewSnapshot } from "#daemon/store/snapshot-rows.ts";
import { checkParts, hashParts, sealParts } from "#daemon/snapshot/snapshot-files.ts";
import { checkMemoryRoom } from "#daemon/snapshot/snapshot-room.ts";
import { specOfCopies } from "#daemon/snapshot/snapshot-spec.ts";
import { shapeOf } from "#daemon/snapshot/snapshot-shape.ts";
import { deleteSnapshot, deleteSuspendedMemory } from "#daemon/snapshot/delete-snapshot.ts";
import { snapshotPaths, vmPaths } from "#daemon/store/paths.ts";
import type { Call, Vms } from "#daemon/vm/vms.ts";
import type { SnapshotFeatures } from "#drivers/vm-driver.ts";
import { snapshotIdFrom } from "#model/ids.ts";
import type { SnapshotId, SnapshotName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import type { SnapshotKind, SnapshotRecord } from "#model/snapshot.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

export type SnapshotOptions = {
  readonly kind: SnapshotKind;
  readonly name?: SnapshotName | undefined;
  readonly labels?: Labels | undefined;
  /** True to leave the memory of a running VM out. A stopped VM has none. */
  readonly diskOnly?: boolean | undefined;
  /** True to restore it in a verification VM before it is ready. */
  readonly verify?: boolean | undefined;
};

/** All actions on snapshots. Every method throws HearthError. */
export class Snapshots {
  readonly #host: Host;
  readonly #vms: Vms;

  constructor(host: Host, vms: Vms) {
    this.#host = host;
    this.#vms = vms;
  }

  /** Creates a snapshot. A running VM runs on, also when this fails; then nothing of the snapshot is left. */
  async create(nameOrId: string, options: SnapshotOptions, call: Call): Promise<SnapshotRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    const { snapshot, features } = await this.#plan(vm, options, call.signal);
    const paths = snapshotPaths(this.#host.dirs, snapshot.id);
    const save = (): Promise<void> =>
      this.#vms.runExclusive(vm.id, "snapshot", call, async (_vm, live, signal) => {
        call.onProgress({ stage: "snapshot", text: "saving" });
        const freeze = (): Promise<void> => this.#freeze(snapshot, signal);
        if (live === undefined) return freeze();
        if (snapshot.shape !== undefined) return saveMemory(live, paths, freeze, "resume", signal);
        return quiesceForDisk(live, freeze, signal);
      });
    return this.#take(snapshot, features, options, save, call);
  }

  /** Saves the VM's memory to disk, and ends its VMM. When this fails, the VM runs as before. */
  async suspend(nameOrId: string, call: Call): Promise<VmRecord> {
    const host = this.#host;
    const { id } = host.store.getVm(nameOrId);
    await this.#vms.runExclusive(id, "suspend", call, async (vm, live, signal) => {
      invariant(live, "a VM that can be suspended has a VMM");
      const options = { kind: "suspended" } as const;
      const { snapshot, features } = await this.#plan(vm, options, signal);
      const paths = snapshotPaths(host.dirs, snapshot.id);
      const save = (): Promise<void> => {
        call.onProgress({ stage: "suspend", text: "saving" });
        return saveMemory(live, paths, async () => {}, "pause", signal);
      };
      try {
        await this.#take(snapshot, features, options, save, { ...call, signal });
        await host.disks.commitResumeOverlay(vmPaths(host.dirs, id).stateDir);
      } catch (error) {
        return this.#resumeAfter(error, live);
      }
      try {
        await this.#vms.endSuspended(vm, snapshot.id, call);
      } catch (error) {
        // If the VMM has ended, the stop is finished later, and the VM is suspended then.
        if (runningHandle(host.store.getVm(id)) === undefined) throw error;
        return this.#resumeAfter(error, live);
      }
      if (host.store.getVm(id).state.phase === "suspended") return;
      await deleteSuspendedMemory(host, id);
      throw new HearthError("vm.gone", `${vm.name} ended while its memory was being saved.`);
    });
    return host.store.getVm(id);
  }

  /**
   * Resumes a VM whose suspend failed, and deletes its memory file. @throws an error that has `first` and what else
   * failed
   */
  async #resumeAfter(first: unknown, live: LiveVm): Promise<never> {
    return failAfter(
      first,
      () => resumeLiveVm(live),
      () => deleteSuspendedMemory(this.#host, live.vm.id),
    );
  }

  /** Restores a VM from one of its snapshots: the disk, the sizes, and the memory if the snapshot has it. */
  async restore(nameOrId: string, call: Call): Promise<VmRecord> {
    const host = this.#host;
    const snapshot = host.snapshots.get(nameOrId, "named");
    const vm = host.store.findVm(snapshot.vmId);
    const shown = snapshot.name ?? snapshot.id;
    if (vm === undefined)
      throw new HearthError(
        "vm.not_found",
        `Cannot restore ${shown}: its VM, ${snapshot.vmName}, no longer exists.`,
        {
          hint: `Create a new VM from it: hearth create --snapshot ${shown}`,
        },
      );
    await checkParts(host, snapshot, call.signal);
    return this.#vms.restoreSnapshot(vm.id, snapshot, call);
  }

  /** Freezes the disk. Aborts with the action on the VM, so that a kill does not wait for the copy of a large disk. */
  #freeze({ id, vmId }: NewSnapshot, signal: AbortSignal): Promise<void> {
    const { disks, dirs } = this.#host;
    return disks.freeze(vmPaths(dirs, vmId).stateDir, snapshotPaths(dirs, id).dir, signal);
  }

  async #take(
    snapshot: NewSnapshot,
    features: SnapshotFeatures | undefined,
    options: SnapshotOptions,
    save: () => Promise<void>,
    call: Call,
  ): Promise<SnapshotRecord> {
    const host = this.#host;
    const { id } = snapshot;
    const temporary = snapshot.kind === "fork";
    const paths = { ...snapshotPaths(host.dirs, id), temporary };
    const take: SnapshotWork = {
      snapshot,
      parts: [],
      save,
      finishLayers: async () => {
        if (snapshot.kind !== "suspended")
          await host.disks.finishLayers(paths.dir, snapshot.diskFormat, call.signal, !temporary);
      },
      finalize: async () => {
        if (features === undefined) return;
        call.onProgress({ stage: "snapshot", text: "verifying" });
        await this.#internal(snapshot, call, (internal) => this.#vms.finalize(internal, paths, call));
      },
      seal: async () => {
        if (features === undefined) return [];
        await sealParts(host, id, !temporary);
        // A fork's snapshot is deleted at once, so it needs no digests.
        return options.kind === "fork" ? [] : hashParts(host, id, call.signal);
      },
      verify: async () => {
        if (options.verify === true)
          await this.#internal(snapshot, call, (internal) => this.#verify(internal, call));
      },
    };
    const plan: SnapshotPlan = { snapshotId: id };
    const context = { host, id: snapshot.vmId, snapshotId: id, take };
    await runJournaled(host, SNAPSHOT_VM, snapshot.vmId, plan, context, call);
    return host.snapshots.get(id);
  }

  /** Returns the VMs that map the snapshot's memory, or are yet to start from it. */
  usersOf({ id }: Pick<SnapshotRecord, "id">): VmRecord[] {
    return this.#host.store
      .listVms()
      .filter(({ spec, state }) => spec.sourceSnapshot === id || snapshotOf(state) === id);
  }

  /** Removes a snapshot. @throws HearthError `snapshot.in_use` with the names of its users */
  async remove(nameOrId: string, kind: "named" | "warm" = "named"): Promise<void> {
    const snapshot = this.#host.snapshots.get(nameOrId, kind);
    const users = this.usersOf(snapshot).map(({ name }) => name);
    if (users.length > 0) {
      const shown = snapshot.name ?? snapshot.id;
      throw new HearthError("snapshot.in_use", `${shown} is used by ${users.join(", ")}.`, {
        hint: `Stop them first: hearth stop ${users.join(" ")}. A VM that has never been started needs it for its first start.`,
      });
    }
    await deleteSnapshot(this.#host, snapshot.id);
  }

  async #plan(
    vm: VmRecord,
    options: SnapshotOptions,
    signal: AbortSignal,
  ): Promise<{ snapshot: NewSnapshot; features: SnapshotFeatures | undefined }> {
    const host = this.#host;
    const handle = runningHandle(vm);
    const driver =
      handle === undefined ? await chooseDriver(host, vm.spec, signal) : driverOf(host, handle.driver);
    const { snapshots, snapshotsRefused } = await driver.features(signal);
    const hasMemory = handle !== undefined && options.diskOnly !== true;
    await assertSaves(driver, vm, options, signal);
    if (hasMemory && snapshots === undefined) throw noSnapshots(driver.name, snapshotsRefused);
    if (hasMemory && vm.spec.volumes.length > 0) throw hasVolumes(vm, options.kind);
    if (hasMemory) await checkMemoryRoom(host, vm, handle);
    // Use the boot-time memory size, not the balloon's current target.
    const memory = handle && (await readMemoryOf(driver, handle, signal));
    const spec = specOfCopies(vm.spec, driver.name, memory?.maxBytes);
    const shape =
      hasMemory && snapshots !== undefined
        ? await shapeOf(host, { spec, imageDigest: vm.imageDigest }, driver.name, snapshots, signal)
        : undefined;
    const snapshot: NewSnapshot = {
      id: snapshotIdFrom(host.random(12)),
      kind: options.kind,
      name: options.name,
      labels: options.labels ?? {},
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

  /** Makes an internal VM from this snapshot for as long as `work` takes. */
  async #internal(
    snapshot: NewSnapshot,
    call: Call,
    work: (internal: VmRecord) => Promise<void>,
  ): Promise<void> {
    const spec = { ...snapshot.spec, sourceSnapshot: snapshot.id };
    const priority = snapshot.kind === "warm" ? "background" : "foreground";
    const internal = await this.#vms.make(internalVm(this.#host, spec, snapshot.imageDigest, priority), call);
    await withCleanUp(
      () => work(internal),
      () => this.#vms.discard(internal.id),
    );
  }

  async #verify(internal: VmRecord, call: Call): Promise<void> {
    await this.#vms.start(internal.id, call);
    const { guest } = await this.#vms.guest(internal.id, "exec", call.signal);
    const code = await runInGuest(guest, ["true"], call);
    invariant(
      code === 0 || code === undefined,
      `a restored guest runs \`true\` with exit code 0, not ${code}`,
    );
  }
}

/** Returns the snapshot that the VM is suspended to, or maps. */
function snapshotOf(state: VmState): SnapshotId | undefined {
  return state.phase === "suspended" ? state.snapshot : handleOf(state)?.snapshot;
}

function hasVolumes(vm: VmRecord, kind: SnapshotKind): HearthError {
  const names = vm.spec.volumes.map(({ name }) => name).join(", ");
  return new HearthError(
    "feature.missing",
    `${vm.name} has volumes (${names}), which are not in a snapshot.`,
    {
      hint: `Volumes can change in the meantime, and the guest memory in the snapshot would not match them.${kind === "named" ? " Use --disk-only." : ""}`,
    },
  );
}
