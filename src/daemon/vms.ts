/**
 * The VMs: every action that the API offers on them. Each action is checked against the table of allowed
 * actions, runs alone on its VM, and is a flow where it changes the host.
 */
import { HearthError, errorBody, toHearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import type { ApiEvent } from "#api/events.ts";
import type { CreateVm, SetVm } from "#api/wire.ts";
import { attachVolume, detachVolume } from "#daemon/attach-volume.ts";
import { CREATE_VM } from "#daemon/flows/create-vm.ts";
import { REMOVE_VM } from "#daemon/flows/remove-vm.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import { SETTLE_SNAPSHOT } from "#daemon/flows/settle-snapshot.ts";
import { STOP_VM } from "#daemon/flows/stop-vm.ts";
import type { StopPlan } from "#daemon/flows/stop-vm.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { completeSpec } from "#daemon/complete-spec.ts";
import { chooseDriver, driverOf } from "#daemon/choose-driver.ts";
import type { HeldVm } from "#daemon/hold-vm.ts";
import { RunningVms } from "#daemon/running-vms.ts";
import { actionOf, setVm } from "#daemon/set-vm.ts";
import { startVm } from "#daemon/start-vm.ts";
import type { NewVm } from "#daemon/store.ts";
import { VmLoops } from "#daemon/vm-loops.ts";
import type { StartHow } from "#daemon/vm-origin.ts";
import { writesVolumes } from "#daemon/volume-users.ts";
import { operationIdFrom, parseVmName, vmIdFrom } from "#model/ids.ts";
import type { OperationId, VmId, VolumeName } from "#model/ids.ts";
import type { SavedState } from "#drivers/vm-driver.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
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

/** For the guest of a VM whose lifetime is over to flush. */
const LAST_WORDS_MS = 10_000;

/** What can be done with VMs. Every method but `background` throws HearthError. */
export class Vms {
  readonly #host: Host;
  readonly #loops: VmLoops;
  readonly #running: RunningVms;
  #onBooted: (vm: VmRecord) => void = () => {};

  constructor(host: Host) {
    this.#host = host;
    this.#loops = new VmLoops(host);
    this.#running = new RunningVms(host, this.#loops, {
      stop: (id) => this.stop(id, { mode: "graceful", timeoutMs: LAST_WORDS_MS }, this.background()),
      remove: (id) => this.remove(id, false, this.background()),
    });
  }

  /** A call that nobody waits for, such as the end of a lifetime. */
  background(): Call {
    return {
      operation: operationIdFrom(this.#host.random(6)),
      onProgress() {},
      signal: new AbortController().signal,
    };
  }

  /** `bound`: the VM lives for one client's connection, and not longer. */
  async create(request: CreateVm, bound: boolean, call: Call): Promise<VmRecord> {
    const host = this.#host;
    if (request.name !== undefined && host.store.findVm(parseVmName(request.name))) {
      // Asked early, so that nobody waits for an image in vain; the store decides.
      throw new HearthError("name.taken", `There is a VM named ${request.name} already.`, {
        hint: `Choose another name, or remove that one: hearth rm ${request.name}`,
      });
    }
    const { spec, imageDigest } = await completeSpec(host, request, call);
    const id = vmIdFrom(host.random(12));
    const name = request.name === undefined ? vmNameFrom(host.random(4)) : parseVmName(request.name);
    return this.make({ id, name, spec, imageDigest, state: { phase: "created" }, bound }, call);
  }

  /** A VM whose spec is complete. */
  async make(vm: NewVm, call: Call): Promise<VmRecord> {
    const host = this.#host;
    const { id, name } = vm;
    const work = async (signal: AbortSignal): Promise<void> => {
      await runJournaled(host, CREATE_VM, id, {}, { host, id, vm, signal }, call);
    };
    try {
      await this.#loops.make(id, vm.state).exclusive("create", name, work, call.signal);
    } catch (error) {
      this.#loops.drop(id);
      throw error;
    }
    this.#publish(vm, { type: "vm.created", atMs: host.now(), id, name });
    return host.store.getVm(id);
  }

  async start(nameOrId: string, call: Call, how: StartHow = {}): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    assertCan("start", vm.state.phase, vm.name);
    return this.#act(vm, "start", call, (signal) => this.#start(vm, { ...call, signal }, how));
  }

  /** Has a VM that never ran load what was saved of another one, as proof that it can be. */
  async settle(vm: VmRecord, saved: SavedState, call: Call): Promise<void> {
    const host = this.#host;
    await this.#alone(vm, "settle", call, async (signal) => {
      const driver = await chooseDriver(host, vm.spec, signal);
      const context = { host, id: vm.id, settle: { vm, driver, saved, signal } };
      await runJournaled(host, SETTLE_SNAPSHOT, vm.id, {}, context, call);
    });
  }

  /** Does `work` while nothing else is done to the VM; with the VMM, where it has one. */
  async hold(
    nameOrId: string,
    call: Call,
    work: (vm: VmRecord, held: HeldVm | undefined, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const host = this.#host;
    const asked = host.store.getVm(nameOrId);
    assertCan("snapshot", asked.state.phase, asked.name);
    await this.#alone(asked, "snapshot", call, async (signal) => {
      const vm = host.store.getVm(asked.id);
      assertCan("snapshot", vm.state.phase, vm.name);
      const attachment = this.#running.find(vm.id);
      await work(vm, attachment && { host, vm, attachment }, signal);
    });
  }

  /** Idempotent: stopping a VM that does not run answers with the VM as it is. */
  async stop(nameOrId: string, plan: StopPlan, call: Call): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    if (vm.state.phase === "stopping") {
      await this.#loops.of(vm.id).idle();
      return this.#host.store.getVm(vm.id);
    }
    if (["created", "stopped", "failed"].includes(vm.state.phase)) return vm;
    assertCan("stop", vm.state.phase, vm.name);
    return this.#act(vm, "stop", call, () => this.#stop(vm, plan, call));
  }

  /** Takes over from an action that is under way. */
  async kill(nameOrId: string, mode: "terminate" | "kill", call: Call): Promise<VmRecord> {
    const host = this.#host;
    await this.#loops.of(host.store.getVm(nameOrId).id).preempt("The VM was killed.");
    const vm = host.store.getVm(nameOrId);
    assertCan("kill", vm.state.phase, vm.name);
    return this.#act(vm, "kill", call, () => this.#stop(vm, { mode, timeoutMs: 0 }, call));
  }

  async restart(nameOrId: string, plan: StopPlan, call: Call): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    assertCan("restart", vm.state.phase, vm.name);
    return this.#act(vm, "restart", call, async (signal) => {
      if (handleOf(vm.state)) await this.#stop(vm, plan, call);
      await this.#start(this.#host.store.getVm(vm.id), { ...call, signal });
    });
  }

  async pause(nameOrId: string, call: Call): Promise<VmRecord> {
    return this.#switch(nameOrId, "pause", call);
  }

  async resume(nameOrId: string, call: Call): Promise<VmRecord> {
    return this.#switch(nameOrId, "resume", call);
  }

  /** `force` also takes a VM that runs, starts or is busy; what outlives it is flushed first. */
  async remove(nameOrId: string, force: boolean, call: Call): Promise<void> {
    const host = this.#host;
    const { id } = host.store.getVm(nameOrId);
    if (force) await this.#loops.of(id).preempt("The VM was removed.");
    const vm = host.store.getVm(id);
    if (!force) assertCan("remove", vm.state.phase, vm.name);
    await this.#alone(vm, "remove", call, async () => {
      if (writesVolumes(vm)) await this.#closeVolumes(vm, call);
      await this.#remove(vm, call);
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

  /** The agent of a VM that runs. @throws HearthError `vm.wrong_phase`, `agent.unreachable` */
  async guest(
    nameOrId: string,
    action: "exec" | "copy",
    signal: AbortSignal,
  ): Promise<{ vm: VmRecord; guest: Guest }> {
    const vm = this.#host.store.getVm(nameOrId);
    assertCan(action, vm.state.phase, vm.name);
    const attachment = this.#running.find(vm.id);
    if (attachment === undefined)
      throw new HearthError("vm.busy", `${vm.name} is being taken over by hearthd.`);
    this.#touch(vm.id);
    return { vm, guest: await attachment.guest(signal) };
  }

  /** How long nothing has been done to any VM. */
  quietMs(): number {
    return this.#loops.quietMs();
  }

  /** `listener` is told of each VM that has booted, and was not restored. */
  whenBooted(listener: (vm: VmRecord) => void): void {
    this.#onBooted = listener;
  }

  responsive(id: VmId): boolean {
    return this.#loops.of(id).responsive;
  }

  /** After a restart of hearthd: follows a VMM that still runs. */
  adopt(vm: VmRecord, handle: VmHandle): void {
    this.#running.adopt(vm, handle);
  }

  /** After a restart of hearthd: the VMM is gone, and nobody saw how. */
  lost(vm: VmRecord): void {
    this.#loops.of(vm.id).send({ type: "vmm-exited", exit: { reason: "unseen", atMs: this.#host.now() } });
  }

  /** Lets go of all VMs; they keep running. */
  detachAll(): void {
    this.#running.dropAll();
  }

  // What follows runs inside `exclusive`.

  async #start(vm: VmRecord, call: Call, how: StartHow = {}): Promise<void> {
    await startVm({ host: this.#host, running: this.#running, loop: this.#loops.of(vm.id) }, vm, how, call);
    this.#touch(vm.id);
    const started = this.#host.store.getVm(vm.id);
    this.#running.armLifetime(started);
    if (handleOf(started.state)?.snapshot === undefined) this.#onBooted(started);
  }

  async #stop(vm: VmRecord, plan: StopPlan, call: Call): Promise<void> {
    const host = this.#host;
    const loop = this.#loops.of(vm.id);
    const handle = handleOf(loop.state);
    if (handle === undefined) return; // It went down while the request was on its way.
    const attachment = this.#running.find(vm.id);
    loop.send({ type: "stop-asked" });
    const driver = driverOf(host, handle.driver);
    // A paused guest cannot flush; it goes on for the time of its end.
    if (vm.state.phase === "paused" && plan.mode === "graceful") await driver.resume(handle, call.signal);
    const context = {
      host,
      id: vm.id,
      plan,
      driver,
      handle,
      guest: attachment?.connectedGuest,
      ended: attachment?.ended ?? new Promise<VmExit>(() => {}),
      commit: (exit: VmExit) => {
        this.#running.drop(vm.id);
        loop.send({ type: "vmm-exited", exit });
      },
    };
    await runJournaled(host, STOP_VM, vm.id, plan, context, call);
    this.#running.afterEnd(vm.id);
  }

  /** The VM's own disk goes with it; what a command has written into a volume is there for the next VM. */
  async #closeVolumes(vm: VmRecord, call: Call): Promise<void> {
    const { phase } = this.#loops.of(vm.id).state;
    if (phase !== "running" && phase !== "paused") return;
    try {
      // A hearthd that was just started may not have found the agent yet.
      if (phase === "running") await this.#running.find(vm.id)?.guest(AbortSignal.timeout(LAST_WORDS_MS));
    } catch (error) {
      this.#host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
    }
    await this.#stop(vm, { mode: "graceful", timeoutMs: LAST_WORDS_MS }, call);
  }

  async #remove(vm: VmRecord, call: Call): Promise<void> {
    const host = this.#host;
    this.#running.drop(vm.id);
    await runJournaled(host, REMOVE_VM, vm.id, {}, { host, id: vm.id }, call);
    this.#loops.drop(vm.id);
    this.#publish(vm, { type: "vm.removed", atMs: host.now(), id: vm.id, name: vm.name });
  }

  /** When a VM was last used is worth less than the use: on a full disk it stays as it was. L2. */
  #touch(id: VmId): void {
    try {
      this.#host.store.touch(id);
    } catch (error) {
      this.#host.log.child({ vm: id }).event("vm.use_not_kept", { error });
    }
  }

  async #switch(nameOrId: string, action: "pause" | "resume", call: Call): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    assertCan(action, vm.state.phase, vm.name);
    return this.#act(vm, action, call, async (signal) => {
      const handle = handleOf(vm.state);
      if (handle === undefined) return;
      await driverOf(this.#host, handle.driver)[action](handle, signal);
      this.#loops.of(vm.id).send({ type: action === "pause" ? "paused" : "resumed" });
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
    const vm = store.getVm(nameOrId);
    assertCan(allowed, vm.state.phase, vm.name);
    return this.#act(vm, action, call, (signal) => work(store.getVm(vm.id), signal));
  }

  async #act(
    vm: VmRecord,
    action: string,
    call: Call,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<VmRecord> {
    await this.#alone(vm, action, call, work);
    return this.#host.store.getVm(vm.id);
  }

  /** One action at a time; one that fails is kept with the VM and published. VS-020. */
  async #alone(
    vm: VmRecord,
    action: string,
    call: Call,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const host = this.#host;
    try {
      await this.#loops.of(vm.id).exclusive(action, vm.name, work, call.signal);
    } catch (error) {
      const failure = toHearthError(error);
      if (failure.code !== "vm.busy" && host.store.findVm(vm.id))
        host.store.setError(vm.id, failure.code, failure);
      const body = errorBody(failure, call.operation);
      this.#publish(vm, { type: "vm.error", atMs: host.now(), id: vm.id, name: vm.name, action, error: body });
      throw failure;
    }
  }

  /** What hearthd does for itself is nobody's news. */
  #publish({ spec }: Pick<VmRecord, "spec">, event: ApiEvent): void {
    if (spec.hidden !== true) this.#host.bus.publish(event);
  }
}
