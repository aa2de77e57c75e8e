/**
 * Makes templates: snapshots of VMs whose agent was ready and in which nothing had run.
 *
 * 1. The first VM with a compatibility key boots, and its key is queued.
 * 2. When the host is idle, or after a minute, hearthd boots an internal VM like it, without anything of the user's.
 * 3. It runs a program once, so that its pages are in memory, and creates a snapshot, which is verified.
 * 4. All later VMs with that key are restored from it.
 * 5. If the templates exceed their budget, the least recently used are deleted.
 */
import { withCleanUp } from "#base/clean-up.ts";
import { setTimeout as sleep } from "node:timers/promises";
import { chooseDriver } from "#daemon/spec/choose-driver.ts";
import { deleteSnapshot } from "#daemon/snapshot/delete-snapshot.ts";
import { runInGuest } from "#daemon/vm/run-in-guest.ts";
import { internalVm } from "#daemon/spec/internal-vm.ts";
import type { Host } from "#daemon/host.ts";
import type { Snapshots } from "#daemon/snapshot/snapshots.ts";
import type { StartResult } from "#daemon/vm/start-vm.ts";
import { templateShape } from "#daemon/vm/start-source.ts";
import { placeholdersOf } from "#daemon/vm/boot-disks.ts";
import { snapshotPaths } from "#daemon/store/paths.ts";
import type { Call, Vms } from "#daemon/vm/vms.ts";
import type { ImageDigest, VmId } from "#model/ids.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VmSpec } from "#model/vm-spec.ts";

type Wanted = { readonly spec: VmSpec; readonly imageDigest: ImageDigest; readonly key: string };

/** The limit for systemd: a unit that never starts must not keep the others out of the template. */
const SYSTEMD_MS = 120_000;

export type TemplateTiming = {
  /** The time without any request after which the host's CPUs are free for background work. */
  readonly idleMs: number;
  /** The time after which a busy host makes its template anyway: the template makes it less busy. */
  readonly patienceMs: number;
  /** The time after which a template that failed is tried again: a full disk, for example, may be temporary. */
  readonly retryMs: number;
};

/** The number of failures after which a template waits: one may have been removed while a VM was starting. */
const FAILURES_MAX = 2;
const TIMING: TemplateTiming = { idleMs: 1_500, patienceMs: 60_000, retryMs: 900_000 };

/** Makes templates one at a time, when the host is idle, and keeps them within their budget. */
export class Templates {
  readonly #host: Host;
  readonly #vms: Vms;
  readonly #snapshots: Snapshots;
  readonly #ended = new AbortController();
  readonly #queue = new Map<string, Wanted>();
  /** The times at which keys that failed may be tried again, unless a user asks before; as `performance.now()`. */
  readonly #retryAtMs = new Map<string, number>();
  /** The number of templates of this key that were made and could not be restored. */
  readonly #failures = new Map<string, number>();
  readonly #making = new Map<string, Promise<SnapshotRecord>>();
  readonly #timing: TemplateTiming;
  #work: Promise<void> | undefined;

  constructor(host: Host, vms: Vms, snapshots: Snapshots, timing = TIMING) {
    this.#host = host;
    this.#vms = vms;
    this.#snapshots = snapshots;
    this.#timing = timing;
  }

  /** Notes that a VM has booted which a template could have restored. Returns at once. */
  booted(vm: VmRecord, { failedTemplate }: StartResult = { failedTemplate: undefined }): void {
    if (failedTemplate?.shape !== undefined) this.#countFailure(failedTemplate.shape.key);
    if (vm.spec.internal !== undefined || vm.spec.noWarm === true || vm.spec.cold === true) return;
    this.#want(vm).catch((error: unknown) => this.#host.log.event("template.failed", { error }));
  }

  /** Makes the template for this VM, or finds it. Returns undefined if VMs like it do not start from templates. */
  async build(vm: Pick<VmRecord, "spec" | "imageDigest">, call: Call): Promise<SnapshotRecord | undefined> {
    const driver = await chooseDriver(this.#host, vm.spec, call.signal);
    const found = await templateShape(this.#host, vm, driver, call.signal);
    if (found === undefined) return undefined;
    const { key } = found.shape;
    const there = this.#host.snapshots.findByShape("warm", key);
    if (there !== undefined) return there;
    this.#queue.delete(key);
    const spec = await templateSpec(this.#host, vm.spec);
    return this.#makeOnce({ spec, imageDigest: vm.imageDigest, key }, call);
  }

  list(): SnapshotRecord[] {
    return this.#host.snapshots.list().filter(({ kind, ready }) => kind === "warm" && ready);
  }

  /** Deletes the templates that no VM maps, all or only those of an image. Returns their number. */
  async prune(imageDigest?: string): Promise<number> {
    let count = 0;
    for (const template of this.list()) {
      if (imageDigest !== undefined && template.imageDigest !== imageDigest) continue;
      if (this.#snapshots.usersOf(template).length > 0) continue;
      await deleteSnapshot(this.#host, template.id);
      count += 1;
    }
    return count;
  }

  /** Resolves when no template is being made. */
  async idle(): Promise<void> {
    while (this.#work !== undefined) await this.#work;
  }

  /** Aborts the template that is being made, and leaves nothing of it. */
  async end(): Promise<void> {
    this.#ended.abort();
    this.#queue.clear();
    await this.idle();
  }

  /** Counts a failure. A template that is made again and again would only keep the host busy. */
  #countFailure(key: string): void {
    const times = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, times);
    if (times >= FAILURES_MAX) this.#putOff(key);
  }

  #putOff(key: string): void {
    const now = performance.now();
    // Keys are as many as users ask for: those whose time has come are removed.
    for (const [other, retryAtMs] of this.#retryAtMs) {
      if (retryAtMs > now) continue;
      this.#retryAtMs.delete(other);
      this.#failures.delete(other);
    }
    this.#retryAtMs.set(key, now + this.#timing.retryMs);
  }

  async #want(vm: VmRecord): Promise<void> {
    const { signal } = this.#ended;
    const driver = await chooseDriver(this.#host, vm.spec, signal);
    const found = await templateShape(this.#host, vm, driver, signal);
    if (found === undefined) return;
    const { key } = found.shape;
    if (performance.now() < (this.#retryAtMs.get(key) ?? 0)) return;
    if (this.#host.snapshots.findByShape("warm", key) !== undefined) return;
    // With this VM's driver, whichever is preferred by then.
    const spec = await templateSpec(this.#host, { ...vm.spec, driver: driver.name });
    this.#queue.set(key, { spec, imageDigest: vm.imageDigest, key });
    this.#work ??= this.#makeAll().finally(() => (this.#work = undefined));
  }

  async #makeAll(): Promise<void> {
    for (const [key, wanted] of this.#queue) {
      await this.#untilIdle();
      this.#queue.delete(key);
      if (this.#ended.signal.aborted) return;
      if (this.#host.snapshots.findByShape("warm", key) !== undefined) continue;
      try {
        await this.#makeOnce(wanted, this.#vms.background(this.#ended.signal));
      } catch (error) {
        if (this.#ended.signal.aborted) return;
        this.#putOff(key);
        this.#host.log.event("template.failed", { error });
      }
    }
  }

  /** Makes a template. Concurrent callers share one build. */
  async #makeOnce(wanted: Wanted, call: Call): Promise<SnapshotRecord> {
    const { key } = wanted;
    for (let other = this.#making.get(key); other !== undefined; other = this.#making.get(key)) {
      await other.catch(() => {}); // The caller that makes it gets the error.
      const there = this.#host.snapshots.findByShape("warm", key);
      if (there !== undefined) return there;
    }
    call.signal.throwIfAborted();
    const work = this.#make(wanted, call).finally(() => this.#making.delete(key));
    this.#making.set(key, work);
    return work;
  }

  /** Boots an internal VM, and creates a snapshot of it. */
  async #make({ spec, imageDigest }: Wanted, call: Call): Promise<SnapshotRecord> {
    const host = this.#host;
    const startedAt = performance.now();
    const { id } = await this.#vms.make(internalVm(host, spec, imageDigest, "background"), call);
    const make = async (): Promise<SnapshotRecord> => {
      await this.#vms.start(id, call);
      if (spec.init === "systemd") await this.#untilBooted(id, call);
      await this.#runOnce(id, call);
      const made = await this.#snapshots.create(id, { kind: "warm", verify: true }, call);
      const tookMs = Math.round(performance.now() - startedAt);
      host.log.event("template.made", { snapshot: made.id, image: spec.image, tookMs });
      await this.#evict(made);
      return made;
    };
    return withCleanUp(make, () => this.#vms.discard(id));
  }

  /**
   * Runs a program, so that the template's memory has what that reads from the guest's disks, and the agent's pages.
   */
  async #runOnce(id: VmId, call: Call): Promise<void> {
    const { guest } = await this.#vms.guest(id, "exec", call.signal);
    await runInGuest(guest, ["sh", "-c", "exec true"], call);
  }

  /** Waits until systemd has started its units: the agent answers long before. */
  async #untilBooted(id: VmId, call: Call): Promise<void> {
    const { guest } = await this.#vms.guest(id, "exec", call.signal);
    // Its result does not matter: a unit that failed here fails in every VM of that image.
    const options = { timeoutMs: SYSTEMD_MS, signal: call.signal };
    await runInGuest(guest, ["systemctl", "is-system-running", "--wait"], options);
  }

  /** Deletes templates over the budget, the least recently used first, and never one that a VM maps. */
  async #evict(newest: SnapshotRecord): Promise<void> {
    const { config, disks, dirs, log } = this.#host;
    const byUse = this.list().toSorted((one, other) => one.lastUsedAtMs - other.lastUsedAtMs);
    const sizes = new Map<string, number>();
    for (const { id } of byUse) sizes.set(id, await disks.dirBytes(snapshotPaths(dirs, id).dir));
    let total = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
    for (const template of byUse) {
      if (total <= config.warm.budgetBytes) return;
      if (template.id === newest.id || this.#snapshots.usersOf(template).length > 0) continue;
      await deleteSnapshot(this.#host, template.id);
      total -= sizes.get(template.id) ?? 0;
      log.event("template.evicted", { snapshot: template.id });
    }
  }

  async #untilIdle(): Promise<void> {
    const { signal } = this.#ended;
    const { idleMs, patienceMs } = this.#timing;
    const patienceEnds = performance.now() + patienceMs;
    while (!signal.aborted && performance.now() < patienceEnds) {
      const quietMs = this.#vms.quietMs();
      if (quietMs >= idleMs) return;
      await sleep(idleMs - quietMs, undefined, { signal }).catch(() => undefined); // hearthd ends.
    }
  }
}

/**
 * Returns the spec of a template's VM: only what the compatibility key and the isolation depend on, and nothing of the
 * user's. Volumes become placeholder disks, which are not mounted before the snapshot.
 */
async function templateSpec(host: Host, spec: VmSpec): Promise<VmSpec> {
  const { user: _user, workdir: _workdir, lifetimeMs: _lifetime, idleTimeoutMs: _idle, ...rest } = spec;
  const { restart: _restart, ...kept } = rest;
  const placeholders = await placeholdersOf(host, spec);
  return {
    ...kept,
    sourceSnapshot: undefined,
    env: {},
    volumes: [],
    placeholders,
    cold: true,
  };
}
