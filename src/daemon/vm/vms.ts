/**
 * Offers every action of the API on VMs. Each is checked against the table of allowed actions, runs with its VM's lock,
 * and is a flow where it changes the host.
 */
import { HearthError, invariant, toHearthError } from "#base/error.ts";
import { SharedWork } from "#base/shared-work.ts";
import type { CreateVm, SetVm } from "#api/wire.ts";
import type { Attachment } from "#daemon/vm/attachment.ts";
import { attachVolume, detachVolume } from "#daemon/vm/attach-volume.ts";
import { deleteSuspendedMemory } from "#daemon/snapshot/delete-snapshot.ts";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import type { CreateContext } from "#daemon/flows/create-flow.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { markUnclean } from "#daemon/lifecycle/recover-flow.ts";
import { FINALIZE_SNAPSHOT } from "#daemon/flows/finalize-flow.ts";
import type { StopPlan } from "#daemon/flows/stop-flow.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { completeSpec } from "#daemon/spec/complete-spec.ts";
import { chooseDriver, driverOf } from "#daemon/spec/choose-driver.ts";
import type { LiveVm } from "#daemon/snapshot/quiesce-vm.ts";
import type { RequestContext as Call } from "#daemon/operations/request-context.ts";
import { assertPause, OTHER_DRIVER } from "#daemon/spec/lacking-features.ts";
import { VmUses } from "#daemon/vm/vm-uses.ts";
import { claimVm } from "#daemon/vm/claim-vm.ts";
import type { PoolAssignment } from "#daemon/vm/claim-vm.ts";
import { Restarts } from "#daemon/vm/restarts.ts";
import type { Admission } from "#daemon/vm/action-lock.ts";
import { closeVolumes } from "#daemon/vm/remove-vm.ts";
import { stopVm } from "#daemon/vm/stop-vm.ts";
import { RESUME_FROM_SUSPEND } from "#daemon/vm/vm-controller.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import { VmControllers } from "#daemon/vm/vm-controllers.ts";
import { actionOf, setLabels, setVm } from "#daemon/vm/set-vm.ts";
import type { NewVm } from "#daemon/store/store.ts";
import type { StartOptions } from "#daemon/vm/start-source.ts";
import { writesVolumes } from "#daemon/vm/volume-users.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { SnapshotId, VmId, VolumeName } from "#model/ids.ts";
import type { SnapshotFiles } from "#drivers/vm-driver.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmExit } from "#model/vm-handle.ts";
import { assertCan, handleOf } from "#model/vm-state.ts";
import type { VmAction } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VolumeMount } from "#model/volume.ts";
import { vmNameFrom } from "#model/vm-names.ts";
import { discardSuspended } from "#daemon/vm/discard-suspended.ts";
import { restoreVm } from "#daemon/vm/restore-vm.ts";
import { tellTime } from "#daemon/vm/tell-time.ts";

export type { Call };

/** The actions after which a VM runs, if they succeed. */
const STARTS: ReadonlySet<string> = new Set(["start", RESUME_FROM_SUSPEND, "restart"]);

/** Options that say who makes the disk. By default, an empty one is made. */
export type MakeOptions = Pick<CreateContext, "startsNow" | "takeDisk">;

/** A VM with its agent; `ended` resolves when its VMM has ended. */
type GuestOf = { readonly vm: VmRecord; readonly guest: Guest; readonly ended: Promise<VmExit> };

/** All actions on VMs. Every method but `background` throws HearthError. */
export class Vms {
  readonly #host: Host;
  readonly controllers: VmControllers;
  readonly restarts: Restarts;
  readonly #resuming = new SharedWork<void>();
  /** The uses of VMs that neither run a command nor need CPUs, such as a copy. */
  readonly uses = new VmUses((id) => this.controllers.of(id).touch());

  constructor(host: Host) {
    this.#host = host;
    this.controllers = new VmControllers(host);
    this.restarts = new Restarts(host, this.controllers);
  }

  /** Returns the context of work that no client waits for, such as the end of a lifetime. */
  background(signal?: AbortSignal): Call {
    return this.controllers.background(signal);
  }

  /**
   * Creates a VM. `ephemeral`: it ends with its client's connection. `startsNow`: a start follows, and makes the disk.
   */
  async create(request: CreateVm, ephemeral: boolean, call: Call, startsNow = false): Promise<VmRecord> {
    const host = this.#host;
    if (request.name !== undefined && host.store.findVm(parseVmName(request.name))) {
      // Checked before an image is pulled for nothing. The store decides.
      throw new HearthError("name.taken", `A VM named ${request.name} already exists.`, {
        hint: "Choose another name: `hearth ls` lists those in use.",
      });
    }
    const { spec, imageDigest } = await completeSpec(host, request, call);
    const id = vmIdFrom(host.random(12));
    const name = request.name === undefined ? vmNameFrom(host.random(4)) : parseVmName(request.name);
    const { labels } = request;
    const vm = { id, name, labels, spec, imageDigest, state: { phase: "created" }, ephemeral } as const;
    return this.make(vm, call, { startsNow });
  }

  /** Creates a VM whose spec is complete. */
  async make(vm: NewVm, call: Call, options: MakeOptions = {}): Promise<VmRecord> {
    const host = this.#host;
    const { id, name, labels = {} } = vm;
    const work = async (signal: AbortSignal): Promise<void> => {
      await runJournaled(host, CREATE_VM, id, {}, { host, id, vm, ...options, signal }, call);
    };
    try {
      await this.controllers.make(id, vm.state).lock.run("create", name, "refuse", call.signal, work);
    } catch (error) {
      this.controllers.removeController(id);
      markUnclean(this.controllers, id, error);
      throw error;
    }
    this.controllers.of(id).publish(vm, { type: "vm.created", atMs: host.now(), id, name, labels });
    return host.store.getVm(id);
  }

  /** Starts a VM. Waits for a start that is under way, and succeeds with it; if that fails, starts the VM once more. */
  async start(nameOrId: string, call: Call, options: StartOptions = {}): Promise<VmRecord> {
    const vm = await this.controllers.recovered(nameOrId, call.signal);
    const starts = STARTS.has(this.controllers.of(vm.id).lock.action ?? "");
    if (!starts) assertCan("start", vm.state.phase, vm.name);
    const action = vm.state.phase === "suspended" ? RESUME_FROM_SUSPEND : "start";
    const work = async (signal: AbortSignal, controller: VmController): Promise<void> => {
      const { phase } = controller.state;
      if (starts && phase === "running" && options.fresh !== true) return;
      assertCan("start", phase, vm.name); // It was another one before the wait.
      if (options.fresh === true) await discardSuspended(controller);
      await this.controllers.start(vm.id, { ...call, signal }, options);
    };
    return this.#act(vm, action, call, work, starts ? "wait" : "refuse");
  }

  /** Loads a new snapshot into a VMM of this internal VM, to prove that it can be loaded. The guest does not run. */
  async finalize(vm: VmRecord, saved: SnapshotFiles, call: Call): Promise<void> {
    const host = this.#host;
    await this.controllers.of(vm.id).act("finalize", "refuse", call, async (signal) => {
      const driver = await chooseDriver(host, vm.spec, signal);
      const context = { host, id: vm.id, finalize: { vm, driver, saved, signal } };
      await runJournaled(host, FINALIZE_SNAPSHOT, vm.id, {}, context, call);
    });
  }

  /** Runs `work` with the VM's lock, and with its live VMM, if it has one. */
  async runExclusive(
    nameOrId: string,
    action: "snapshot" | "suspend",
    call: Call,
    work: (vm: VmRecord, live: LiveVm | undefined, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const host = this.#host;
    const asked = await this.controllers.recovered(nameOrId, call.signal);
    assertCan(action, asked.state.phase, asked.name);
    await this.controllers.of(asked.id).act(action, "refuse", call, async (signal) => {
      const vm = host.store.getVm(asked.id, nameOrId);
      assertCan(action, vm.state.phase, vm.name);
      const { attachment } = this.controllers.of(vm.id);
      // Otherwise the disk would be copied while the guest writes to it.
      invariant(attachment || handleOf(vm.state) === undefined, "a VM with a VMM is followed");
      await work(vm, attachment && { host, vm, attachment }, signal);
    });
  }

  /** Stops a VM. Idempotent: for a VM that does not run, returns it once nothing of it is left on the host. */
  async stop(
    nameOrId: string,
    plan: StopPlan,
    call: Call,
    admission: Admission = "refuse",
  ): Promise<VmRecord> {
    const vm = await this.controllers.recovered(nameOrId, call.signal);
    const { state } = vm;
    const isStopping = state.phase === "stopping";
    const isUnclean = state.phase === "failed" && state.code === "vm.unclean";
    if (!isStopping && !isUnclean && handleOf(state) === undefined && state.phase !== "starting") {
      this.#host.store.setDesired(vm.id, "stopped");
      return this.#host.store.getVm(vm.id);
    }
    if (!isStopping && !isUnclean && admission === "refuse") assertCan("stop", state.phase, vm.name);
    return this.#act(
      vm,
      "stop",
      call,
      (signal, controller) => stopVm(controller, this.#host.store.getVm(vm.id), plan, { ...call, signal }),
      isStopping ? "wait" : admission,
    );
  }

  /** Ends the VMM at once, whatever action is under way. Succeeds where there is none. */
  async kill(nameOrId: string, mode: "terminate" | "kill", call: Call): Promise<VmRecord> {
    const host = this.#host;
    const asked = host.store.getVm(nameOrId);
    const end = async (signal: AbortSignal, controller: VmController): Promise<void> => {
      const vm = host.store.getVm(asked.id, nameOrId);
      if (vm.state.phase === "suspended") return discardSuspended(controller);
      await stopVm(controller, vm, { mode, timeoutMs: 0 }, { ...call, signal });
      await deleteSuspendedMemory(host, vm.id); // Left over from a suspend whose VMM could not be stopped.
    };
    const takeOver = this.controllers.of(asked.id).takeOver("The VM was killed.", mode === "kill");
    return this.#act(asked, "kill", call, end, takeOver);
  }

  async restart(nameOrId: string, plan: StopPlan, call: Call): Promise<VmRecord> {
    const vm = await this.controllers.recovered(nameOrId, call.signal);
    assertCan("restart", vm.state.phase, vm.name);
    return this.#act(vm, "restart", call, async (signal, controller) => {
      if (handleOf(vm.state)) await stopVm(controller, vm, plan, { ...call, signal });
      await this.controllers.start(vm.id, { ...call, signal });
    });
  }

  async pause(nameOrId: string, call: Call): Promise<VmRecord> {
    return this.#switch(nameOrId, "pause", call);
  }

  /** Resumes a VM that is paused or suspended. */
  async resume(nameOrId: string, call: Call): Promise<VmRecord> {
    const { phase } = (await this.controllers.recovered(nameOrId, call.signal)).state;
    if (phase === "suspended") return this.start(nameOrId, call);
    return this.#switch(nameOrId, "resume", call);
  }

  /** Removes a VM. With `force`, also one that runs, starts or is busy; its writable volumes are flushed first. */
  async remove(nameOrId: string, force: boolean, call: Call): Promise<void> {
    const { store } = this.#host;
    const asked = force ? store.getVm(nameOrId) : await this.controllers.recovered(nameOrId, call.signal);
    if (!force) assertCan("remove", asked.state.phase, asked.name);
    const controller = this.controllers.of(asked.id);
    const remove = async (signal: AbortSignal): Promise<void> => {
      const vm = store.getVm(asked.id, nameOrId);
      const lasting = { ...call, signal };
      if (writesVolumes(vm)) await closeVolumes(controller, vm, lasting);
      await this.controllers.remove(controller, lasting);
    };
    const takeOver = controller.takeOver("The VM was removed.", !writesVolumes(asked));
    try {
      await controller.act("remove", force ? takeOver : "refuse", call, remove);
    } catch (error) {
      // Another request has removed it meanwhile, which is all that was asked for.
      if (!force || toHearthError(error).code !== "vm.not_found") throw error;
    }
  }

  /** Gives a VM that waited in a pool to a caller, with the name and identity that the caller asked for. */
  async claim(id: VmId, as: PoolAssignment, call: Call): Promise<VmRecord> {
    const waiting = this.#host.store.getVm(id);
    return this.#act(waiting, "claim", call, (signal, controller) =>
      claimVm(controller, waiting, as, signal),
    );
  }

  /** Ends the VMM of a VM whose memory was saved to `snapshot`. Called inside of `runExclusive`. */
  async endSuspended(vm: VmRecord, snapshot: SnapshotId, call: Call): Promise<void> {
    const plan: StopPlan = { mode: "kill", timeoutMs: 0, suspendedTo: snapshot };
    await stopVm(this.controllers.of(vm.id), vm, plan, call);
  }

  /** Stops the VM and restores it from the snapshot. After a disk-only snapshot it boots only if it was running. */
  async restoreSnapshot(nameOrId: string, snapshot: SnapshotRecord, call: Call): Promise<VmRecord> {
    const asked = await this.controllers.recovered(nameOrId, call.signal);
    assertCan("restore", asked.state.phase, asked.name);
    return this.#act(asked, "restore", call, (signal, controller) =>
      restoreVm(this.controllers, controller, snapshot, { ...call, signal }),
    );
  }

  /** Removes an internal VM. Idempotent, and not cancelled. */
  async discard(id: VmId): Promise<void> {
    try {
      await this.remove(id, true, this.background());
    } catch (error) {
      if (toHearthError(error).code !== "vm.not_found") throw error;
    }
  }

  async set(nameOrId: string, change: SetVm, call: Call): Promise<VmRecord> {
    const host = this.#host;
    const action = actionOf(change);
    if (action === "label") return setLabels(host, host.store.getVm(nameOrId).id, change.labels ?? {});
    const work = (vm: VmRecord, signal: AbortSignal): Promise<void> =>
      setVm(host, vm, change, { ...call, signal });
    return this.#adjust(nameOrId, "set", call, work, action);
  }

  /** Attaches a volume from the VM's next start on. */
  async attachVolume(nameOrId: string, mount: VolumeMount, call: Call): Promise<VmRecord> {
    return this.#adjust(nameOrId, "attach", call, async (vm) => attachVolume(this.#host, vm, mount));
  }

  /** Detaches a volume from the VM's next start on; the volume and its data stay. */
  async detachVolume(nameOrId: string, name: VolumeName, call: Call): Promise<VmRecord> {
    return this.#adjust(nameOrId, "detach", call, async (vm) => detachVolume(this.#host, vm, name));
  }

  /**
   * Returns the agent of a running VM; resumes one that is suspended. @throws HearthError `vm.wrong_phase`,
   * `agent.unreachable`
   */
  async guest(nameOrId: string, action: "exec" | "copy", signal: AbortSignal): Promise<GuestOf> {
    const vm = await this.#ensureResumed(nameOrId, action, signal);
    const controller = this.controllers.of(vm.id);
    const { attachment } = controller;
    if (attachment === undefined)
      throw new HearthError("vm.busy", `${vm.name} is being taken over by hearthd.`);
    controller.touch();
    const { ended } = attachment;
    return { vm, guest: await controller.guest(attachment, signal), ended };
  }

  /** Returns the VM's session if its agent is connected now. To ask for it is no use of the VM. */
  connected(id: VmId): Attachment | undefined {
    const { attachment } = this.controllers.of(id);
    return attachment?.connectedGuest === undefined ? undefined : attachment;
  }

  /** Returns for how long nothing has been done to any VM. */
  quietMs(): number {
    return this.controllers.quietMs();
  }

  /** Resolves when nothing is being done to this VM, or to any. */
  idle(id?: VmId): Promise<void> {
    return id === undefined ? this.controllers.idle() : this.controllers.of(id).lock.idle();
  }

  /** Calls `listener` for each VM that has booted, and was not restored. */
  whenBooted(listener: VmControllers["onBooted"]): void {
    this.controllers.onBooted = listener;
  }

  responsive(id: VmId): boolean {
    return this.controllers.of(id).isResponsive;
  }

  /** Closes all sessions; the VMs keep running. */
  detachAll(): void {
    this.controllers.closeSessions();
  }

  async #act(
    { id }: VmRecord,
    action: string,
    call: Call,
    work: (signal: AbortSignal, controller: VmController) => Promise<void>,
    admission: Admission = "refuse",
  ): Promise<VmRecord> {
    const controller = this.controllers.of(id);
    await controller.act(action, admission, call, (signal) => work(signal, controller));
    return this.#host.store.getVm(id);
  }

  async #switch(nameOrId: string, action: "pause" | "resume", call: Call): Promise<VmRecord> {
    const vm = await this.controllers.recovered(nameOrId, call.signal);
    assertCan(action, vm.state.phase, vm.name);
    const handle = handleOf(vm.state);
    if (handle === undefined) return vm;
    const driver = driverOf(this.#host, handle.driver);
    if (action === "pause") await assertPause(driver, `Cannot pause ${vm.name}`, OTHER_DRIVER, call.signal);
    return this.#act(vm, action, call, async (signal, controller) => {
      await driver[action](handle, signal);
      if (action === "resume") await tellTime(controller, signal);
      controller.send({ type: action === "pause" ? "paused" : "resumed" });
    });
  }

  /** Changes a VM's spec. `work` gets the row as it is once the VM is locked. */
  async #adjust(
    nameOrId: string,
    action: string,
    call: Call,
    work: (vm: VmRecord, signal: AbortSignal) => Promise<void>,
    allowed: VmAction = "adjust",
  ): Promise<VmRecord> {
    const { store } = this.#host;
    const vm = await this.controllers.recovered(nameOrId, call.signal);
    assertCan(allowed, vm.state.phase, vm.name);
    return this.#act(vm, action, call, (signal) => work(store.getVm(vm.id), signal));
  }

  /** Resumes a suspended VM. Concurrent callers share one resume, which continues when one of them leaves. */
  async #ensureResumed(nameOrId: string, action: VmAction, signal: AbortSignal): Promise<VmRecord> {
    const { store } = this.#host;
    const asked = await this.controllers.recovered(nameOrId, signal);
    if (this.controllers.of(asked.id).isSuspending) {
      const resumeSuspended = (): Promise<void> => this.#resumeSuspended(asked.id);
      await this.#resuming.join(asked.id, resumeSuspended, () => {}, signal);
    }
    const vm = store.getVm(asked.id, nameOrId);
    assertCan(action, vm.state.phase, vm.name);
    return vm;
  }

  async #resumeSuspended(id: VmId): Promise<void> {
    await this.controllers.of(id).lock.idle(); // It may be under suspension, or being resumed by another request.
    if (this.#host.store.getVm(id).state.phase === "suspended") await this.start(id, this.background());
  }
}
