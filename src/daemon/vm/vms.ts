/**
 * The VMs: every action that the API offers on them. Each action is checked against the table of allowed
 * actions, runs alone on its VM, and is a flow where it changes the host.
 */
import { HearthError, invariant, toHearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import { SharedWork } from "#base/shared-work.ts";
import type { CreateVm, SetVm } from "#api/wire.ts";
import type { Attachment } from "#daemon/vm/attachment.ts";
import { attachVolume, detachVolume } from "#daemon/vm/attach-volume.ts";
import { forgetMemory } from "#daemon/snapshot/delete-snapshot.ts";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import type { CreateContext } from "#daemon/flows/create-flow.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { markUnclean } from "#daemon/lifecycle/recover-flow.ts";
import { SETTLE_SNAPSHOT } from "#daemon/flows/settle-flow.ts";
import type { StopPlan } from "#daemon/flows/stop-flow.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { completeSpec } from "#daemon/spec/complete-spec.ts";
import { guestIdentity } from "#daemon/vm/boot-plan.ts";
import { logWarnings } from "#daemon/vm/guest-warnings.ts";
import { chooseDriver, driverOf } from "#daemon/spec/choose-driver.ts";
import type { HeldVm } from "#daemon/snapshot/quiesce-vm.ts";
import { assertPause, OTHER_DRIVER } from "#daemon/spec/lacking-features.ts";
import { VmUses } from "#daemon/vm/vm-uses.ts";
import { LAST_WORDS_MS, VmActions } from "#daemon/vm/vm-actions.ts";
import { actionOf, setVm } from "#daemon/vm/set-vm.ts";
import type { NewVm } from "#daemon/store/store.ts";
import type { VmRecovery } from "#daemon/vm/vm-recovery.ts";
import { diskFrom } from "#daemon/vm/boot-disks.ts";
import { chooseOrigin } from "#daemon/vm/vm-origin.ts";
import type { StartHow } from "#daemon/vm/vm-origin.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import { writesVolumes } from "#daemon/vm/volume-users.ts";
import { operationIdFrom, parseVmName, vmIdFrom } from "#model/ids.ts";
import type { OperationId, SnapshotId, VmId, VolumeName } from "#model/ids.ts";
import type { SavedState } from "#drivers/vm-driver.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import { specBack } from "#daemon/snapshot/snapshot-spec.ts";
import { assertCan, handleOf } from "#model/vm-state.ts";
import type { VmAction } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VolumeMount } from "#model/volume.ts";
import { vmNameFrom } from "#model/vm-names.ts";

/** Who asked, and where the answer goes meanwhile. */
export type Call = {
  readonly operation: OperationId;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
};

/** How the VM that is made gets its disk; by itself, it gets an empty one. */
export type MakeOptions = Pick<CreateContext, "startsNow" | "takeDisk">;

/** What a VM of a pool becomes. */
export type Claim = Pick<NewVm, "name" | "spec" | "bound">;

type GuestOf = { readonly vm: VmRecord; readonly guest: Guest };
/** What can be done with VMs. Every method but `background` throws HearthError. */
export class Vms {
  readonly #host: Host;
  readonly #actions: VmActions;
  readonly #waking = new SharedWork<void>();
  /** The uses of VMs that neither run a command nor need CPUs, such as a copy. */
  readonly uses = new VmUses((id) => this.#actions.touch(id));

  constructor(host: Host) {
    this.#host = host;
    this.#actions = new VmActions(host, {
      stop: (id) => this.stop(id, { mode: "graceful", timeoutMs: LAST_WORDS_MS }, this.background()),
      remove: (id) => this.remove(id, false, this.background()),
    });
  }

  /** A call that nobody waits for, such as the end of a lifetime. */
  background(signal: AbortSignal = new AbortController().signal): Call {
    return { operation: operationIdFrom(this.#host.random(6)), onProgress() {}, signal };
  }

  /**
   * `bound`: the VM lives for one client's connection, and not longer. `startsNow`: its start follows, and makes its
   * disk.
   */
  async create(request: CreateVm, bound: boolean, call: Call, startsNow = false): Promise<VmRecord> {
    const host = this.#host;
    if (request.name !== undefined && host.store.findVm(parseVmName(request.name))) {
      // Asked early, so that nobody waits for an image in vain; the store decides.
      throw new HearthError("name.taken", `There is a VM named ${request.name} already.`, {
        hint: "Choose another name: `hearth ls` shows those that are taken.",
      });
    }
    const { spec, imageDigest } = await completeSpec(host, request, call);
    const id = vmIdFrom(host.random(12));
    const name = request.name === undefined ? vmNameFrom(host.random(4)) : parseVmName(request.name);
    const vm = { id, name, spec, imageDigest, state: { phase: "created" }, bound } as const;
    return this.make(vm, call, { startsNow });
  }

  /** A VM whose spec is complete. */
  async make(vm: NewVm, call: Call, options: MakeOptions = {}): Promise<VmRecord> {
    const host = this.#host;
    const { id, name } = vm;
    const work = async (signal: AbortSignal): Promise<void> => {
      await runJournaled(host, CREATE_VM, id, {}, { host, id, vm, ...options, signal }, call);
    };
    try {
      await this.#actions.loops.make(id, vm.state).exclusive("create", name, work, call.signal);
    } catch (error) {
      this.#actions.loops.drop(id);
      markUnclean(host, id, error);
      throw error;
    }
    this.#actions.publish(vm, { type: "vm.created", atMs: host.now(), id, name });
    return host.store.getVm(id);
  }

  async start(nameOrId: string, call: Call, how: StartHow = {}): Promise<VmRecord> {
    const vm = await this.recovery.done(nameOrId, call.signal);
    assertCan("start", vm.state.phase, vm.name);
    const action = vm.state.phase === "suspended" ? "wake" : "start";
    return this.#actions.act(vm, action, call, async (signal) => {
      if (how.fresh === true) await this.#actions.forget(vm);
      await this.#actions.start(this.#host.store.getVm(vm.id), { ...call, signal }, how);
    });
  }

  /** Has a VM that never ran load what was saved of another one, as proof that it can be. */
  async settle(vm: VmRecord, saved: SavedState, call: Call): Promise<void> {
    const host = this.#host;
    await this.#actions.alone(vm, "settle", call, async (signal) => {
      const driver = await chooseDriver(host, vm.spec, signal);
      const context = { host, id: vm.id, settle: { vm, driver, saved, signal } };
      await runJournaled(host, SETTLE_SNAPSHOT, vm.id, {}, context, call);
    });
  }

  /** Does `work` while nothing else is done to the VM; with the VMM, where it has one. */
  async hold(
    nameOrId: string,
    action: "snapshot" | "suspend",
    call: Call,
    work: (vm: VmRecord, held: HeldVm | undefined, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const host = this.#host;
    const asked = await this.recovery.done(nameOrId, call.signal);
    assertCan(action, asked.state.phase, asked.name);
    await this.#actions.alone(asked, action, call, async (signal) => {
      const vm = host.store.getVm(asked.id, nameOrId);
      assertCan(action, vm.state.phase, vm.name);
      const attachment = this.#actions.running.find(vm.id);
      // Its disk would be looked at while it writes.
      invariant(attachment || handleOf(vm.state) === undefined, "a VM with a VMM is followed");
      await work(vm, attachment && { host, vm, attachment }, signal);
    });
  }

  /** Idempotent: stopping a VM that does not run answers with the VM as it is. */
  async stop(nameOrId: string, plan: StopPlan, call: Call): Promise<VmRecord> {
    const vm = await this.recovery.done(nameOrId, call.signal);
    if (vm.state.phase === "stopping") {
      await this.#actions.loops.of(vm.id).idle();
      return this.#host.store.getVm(vm.id);
    }
    if (["created", "stopped", "suspended", "failed"].includes(vm.state.phase)) return vm;
    assertCan("stop", vm.state.phase, vm.name);
    return this.#actions.act(vm, "stop", call, (signal) => this.#actions.stop(vm, plan, { ...call, signal }));
  }

  /** Takes over from an action that is under way. Succeeds where that has ended the VMM, or has not started it yet. */
  async kill(nameOrId: string, mode: "terminate" | "kill", call: Call): Promise<VmRecord> {
    const host = this.#host;
    const asked = host.store.getVm(nameOrId);
    if (!this.#actions.loops.of(asked.id).busy) assertCan("kill", asked.state.phase, asked.name);
    if (mode === "kill") await this.#actions.endVmmOfBusy(asked.id);
    const end = async (): Promise<void> => {
      const vm = host.store.getVm(asked.id, nameOrId);
      if (vm.state.phase === "suspended") return this.#actions.forget(vm);
      await this.#actions.stop(vm, { mode, timeoutMs: 0 }, call);
      await forgetMemory(host, vm.id); // Of one whose VMM did not end when it was to sleep.
    };
    return this.#actions.act(asked, "kill", call, end, "The VM was killed.");
  }

  async restart(nameOrId: string, plan: StopPlan, call: Call): Promise<VmRecord> {
    const vm = await this.recovery.done(nameOrId, call.signal);
    assertCan("restart", vm.state.phase, vm.name);
    return this.#actions.act(vm, "restart", call, async (signal) => {
      if (handleOf(vm.state)) await this.#actions.stop(vm, plan, { ...call, signal });
      await this.#actions.start(this.#host.store.getVm(vm.id), { ...call, signal });
    });
  }

  async pause(nameOrId: string, call: Call): Promise<VmRecord> {
    return this.#switch(nameOrId, "pause", call);
  }

  /** Also one that is suspended. */
  async resume(nameOrId: string, call: Call): Promise<VmRecord> {
    const { phase } = (await this.recovery.done(nameOrId, call.signal)).state;
    if (phase === "suspended") return this.start(nameOrId, call);
    return this.#switch(nameOrId, "resume", call);
  }

  /** `force` also takes a VM that runs, starts or is busy; what outlives it is flushed first. */
  async remove(nameOrId: string, force: boolean, call: Call): Promise<void> {
    const { store } = this.#host;
    const asked = force ? store.getVm(nameOrId) : await this.recovery.done(nameOrId, call.signal);
    if (!force) assertCan("remove", asked.state.phase, asked.name);
    else if (!writesVolumes(asked)) await this.#actions.endVmmOfBusy(asked.id);
    const remove = async (): Promise<void> => {
      const vm = store.getVm(asked.id, nameOrId);
      if (writesVolumes(vm)) await this.#actions.closeVolumes(vm, call);
      await this.#actions.remove(vm, call);
    };
    await this.#actions.alone(asked, "remove", call, remove, force ? "The VM was removed." : undefined);
  }

  /** Makes a VM that waited in a pool the caller's: it goes on as another one. */
  async claim(id: VmId, as: Claim, call: Call): Promise<VmRecord> {
    const host = this.#host;
    const waiting = host.store.getVm(id);
    await this.#actions.alone(waiting, "claim", call, async (signal) => {
      const vm = { ...waiting, name: as.name, spec: as.spec };
      const handle = handleOf(waiting.state);
      const attachment = this.#actions.running.find(id);
      if (handle === undefined || attachment === undefined)
        throw new HearthError("vm.gone", "The VM that waited is gone.");
      await driverOf(host, handle.driver).resume(handle, signal);
      const identity = await guestIdentity(host, vm, true, signal);
      const { warnings } = await attachment.ask((guest, inTime) => guest.configure(identity, inTime), signal);
      logWarnings(host, id, warnings);
      // Until it is the caller's altogether, it is nobody's: a hearthd that comes back takes it away.
      host.store.transaction(() => {
        host.store.claimVm(id, as);
        this.#actions.publish(vm, { type: "vm.created", atMs: host.now(), id, name: vm.name });
        this.#actions.loops.of(id).send({ type: "resumed", guestWarnings: warnings });
      });
      this.#actions.running.armLifetime(host.store.getVm(id));
    });
    return host.store.getVm(id);
  }

  /** The end of a suspension, inside of `hold`: its memory is in that snapshot. */
  async endSuspended(vm: VmRecord, snapshot: SnapshotId, call: Call): Promise<void> {
    await this.#actions.stop(vm, { mode: "kill", timeoutMs: 0, suspendedTo: snapshot }, call);
  }

  /** Ends it, if it runs, and starts it as the snapshot has it; with a disk alone, only if it ran. */
  async goBack(nameOrId: string, snapshot: SnapshotRecord, call: Call): Promise<VmRecord> {
    const host = this.#host;
    const asked = await this.recovery.done(nameOrId, call.signal);
    assertCan("restore", asked.state.phase, asked.name);
    return this.#actions.act(asked, "restore", call, async (signal) => {
      const spec = {
        ...specBack(host.store.getVm(asked.id, nameOrId).spec, snapshot.spec),
        origin: undefined,
      };
      const before = { ...host.store.getVm(asked.id, nameOrId), spec };
      // Refused before anything is ended.
      await chooseOrigin(host, before, await chooseDriver(host, spec, signal), { from: snapshot }, signal);
      const ran = handleOf(before.state) !== undefined;
      if (ran) await this.#actions.stop(before, { mode: "kill", timeoutMs: 0 }, call);
      // From here on the restore is pending: each start goes on with it, until one has succeeded.
      const pending = { ...spec, origin: snapshot.id };
      await this.#actions.forget(before, () => host.store.setSpec(before.id, pending));
      const vm = host.store.getVm(before.id);
      try {
        if (snapshot.shape !== undefined || ran)
          return await this.#actions.start(vm, { ...call, signal }, { from: snapshot });
        await diskFrom(host, vmPaths(host.folders, vm.id).stateDir, snapshot, signal);
        host.store.setSpec(vm.id, spec);
      } catch (error) {
        this.#actions.restorePending(vm.id, snapshot, error);
        throw error;
      }
    });
  }

  /** Takes away what hearthd has made for itself. Idempotent, and not cancelled. */
  async discard(id: VmId): Promise<void> {
    try {
      await this.remove(id, true, this.background());
    } catch (error) {
      if (toHearthError(error).code !== "vm.not_found") throw error;
    }
  }

  async set(nameOrId: string, change: SetVm, call: Call): Promise<VmRecord> {
    return this.#adjust(
      nameOrId,
      "set",
      call,
      (vm, signal) => setVm(this.#host, vm, change, signal),
      actionOf(change),
    );
  }

  /** From the VM's next start on. */
  async attachVolume(nameOrId: string, mount: VolumeMount, call: Call): Promise<VmRecord> {
    return this.#adjust(nameOrId, "attach", call, async (vm) => attachVolume(this.#host, vm, mount));
  }

  /** From the VM's next start on; the volume and its data stay. */
  async detachVolume(nameOrId: string, name: VolumeName, call: Call): Promise<VmRecord> {
    return this.#adjust(nameOrId, "detach", call, async (vm) => detachVolume(this.#host, vm, name));
  }

  /** The agent of a VM that runs; one that is suspended wakes. @throws HearthError `vm.wrong_phase`, `agent.unreachable` */
  async guest(nameOrId: string, action: "exec" | "copy", signal: AbortSignal): Promise<GuestOf> {
    const vm = await this.#awake(nameOrId, action, signal);
    const attachment = this.#actions.running.find(vm.id);
    if (attachment === undefined)
      throw new HearthError("vm.busy", `${vm.name} is being taken over by hearthd.`);
    this.#actions.touch(vm.id);
    return { vm, guest: await this.#actions.running.guest(vm.id, attachment, signal) };
  }

  /** What has the agent's connection, where there is one now; asking for it is no use of the VM. */
  connected(id: VmId): Attachment | undefined {
    const attachment = this.#actions.running.find(id);
    return attachment?.connectedGuest === undefined ? undefined : attachment;
  }

  /** How long nothing has been done to any VM. */
  quietMs(): number {
    return this.#actions.loops.quietMs();
  }

  /** Resolves when nothing is being done to this VM, or to any. */
  idle(id?: VmId): Promise<void> {
    const { loops } = this.#actions;
    return id === undefined ? loops.idle() : loops.of(id).idle();
  }

  /** `listener` is told of each VM that has booted, and was not restored. */
  whenBooted(listener: VmActions["onBooted"]): void {
    this.#actions.onBooted = listener;
  }

  responsive(id: VmId): boolean {
    return this.#actions.loops.of(id).responsive;
  }

  /** For a hearthd that has just started. */
  get recovery(): VmRecovery {
    return this.#actions.recovery;
  }

  /** Lets go of all VMs; they keep running. */
  detachAll(): void {
    this.#actions.running.dropAll();
  }

  async #switch(nameOrId: string, action: "pause" | "resume", call: Call): Promise<VmRecord> {
    const vm = await this.recovery.done(nameOrId, call.signal);
    assertCan(action, vm.state.phase, vm.name);
    const handle = handleOf(vm.state);
    if (handle === undefined) return vm;
    const driver = driverOf(this.#host, handle.driver);
    if (action === "pause") await assertPause(driver, `Cannot pause ${vm.name}`, OTHER_DRIVER, call.signal);
    return this.#actions.act(vm, action, call, async (signal) => {
      await driver[action](handle, signal);
      if (action === "resume") await this.#actions.tellTime(vm, signal);
      this.#actions.loops.of(vm.id).send({ type: action === "pause" ? "paused" : "resumed" });
    });
  }

  /** Changes what a VM is; `work` gets it as it is when nothing else is done to it. */
  async #adjust(
    nameOrId: string,
    action: string,
    call: Call,
    work: (vm: VmRecord, signal: AbortSignal) => Promise<void>,
    allowed: VmAction = "adjust",
  ): Promise<VmRecord> {
    const { store } = this.#host;
    const vm = await this.recovery.done(nameOrId, call.signal);
    assertCan(allowed, vm.state.phase, vm.name);
    return this.#actions.act(vm, action, call, (signal) => work(store.getVm(vm.id), signal));
  }

  /** Several may come at once: one of them wakes it, and none gives up because another one has gone. */
  async #awake(nameOrId: string, action: VmAction, signal: AbortSignal): Promise<VmRecord> {
    const { store } = this.#host;
    const asked = await this.recovery.done(nameOrId, signal);
    if (this.#actions.loops.of(asked.id).sleepy) {
      const wake = (): Promise<void> => this.#wake(asked.id);
      await this.#waking.join(asked.id, wake, () => {}, signal);
    }
    const vm = store.getVm(asked.id, nameOrId);
    assertCan(action, vm.state.phase, vm.name);
    return vm;
  }

  async #wake(id: VmId): Promise<void> {
    await this.#actions.loops.of(id).idle(); // It may be falling asleep, or waking for somebody else.
    if (this.#host.store.getVm(id).state.phase === "suspended") await this.start(id, this.background());
  }
}
