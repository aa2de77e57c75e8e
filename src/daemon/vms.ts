/**
 * The VMs: every action that the API offers on them. Each action is checked against the table of allowed
 * actions, runs alone on its VM, and is a flow where it changes the host.
 */
import { HearthError, errorBody, toHearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import type { CreateVm, SetVm } from "#api/wire.ts";
import { Attachment } from "#daemon/attachment.ts";
import { CREATE_VM } from "#daemon/flows/create-vm.ts";
import { runFlow } from "#daemon/flows/flow.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-vm.ts";
import { START_VM } from "#daemon/flows/start-vm.ts";
import { STOP_VM } from "#daemon/flows/stop-vm.ts";
import type { StopPlan } from "#daemon/flows/stop-vm.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { completeSpec } from "#daemon/complete-spec.ts";
import { chooseDriver, driverOf } from "#daemon/choose-driver.ts";
import { VmLoop } from "#daemon/vm-loop.ts";
import { vmPaths, vmRunsDir } from "#daemon/vm-paths.ts";
import { operationIdFrom, parseVmName, vmIdFrom } from "#model/ids.ts";
import type { OperationId, VmId } from "#model/ids.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import { assertCan, handleOf } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";
import { vmNameFrom } from "#model/vm-names.ts";

/** Who asked, and where the answer goes meanwhile. */
export type Call = {
  readonly operation: OperationId;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
};

export class Vms {
  readonly #host: Host;
  readonly #loops = new Map<VmId, VmLoop>();
  readonly #attachments = new Map<VmId, Attachment>();

  constructor(host: Host) {
    this.#host = host;
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
    const state: VmState = { phase: "created" };
    const loop = this.#loop(id, state);
    await loop
      .exclusive(
        "create",
        name,
        async (signal) => {
          const vm = { id, name, spec, imageDigest, state, bound };
          await this.#flow(CREATE_VM, id, {}, { host, id, vm, signal }, call);
        },
        call.signal,
      )
      .catch((error: unknown) => {
        this.#loops.delete(id);
        throw error;
      });
    host.bus.publish({ type: "vm.created", atMs: host.now(), id, name });
    return host.store.getVm(id);
  }

  async start(nameOrId: string, call: Call): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    assertCan("start", vm.state.phase, vm.name);
    return this.#act(vm, "start", call, (signal) => this.#start(vm, { ...call, signal }));
  }

  /** Idempotent: stopping a VM that does not run answers with the VM as it is. */
  async stop(nameOrId: string, plan: StopPlan, call: Call): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    if (vm.state.phase === "stopping") {
      await this.loop(vm.id).idle();
      return this.#host.store.getVm(vm.id);
    }
    if (["created", "stopped", "failed"].includes(vm.state.phase)) return vm;
    assertCan("stop", vm.state.phase, vm.name);
    return this.#act(vm, "stop", call, () => this.#stop(vm, plan, call));
  }

  /** Takes over from an action that is under way. */
  async kill(nameOrId: string, mode: "terminate" | "kill", call: Call): Promise<VmRecord> {
    const host = this.#host;
    await this.loop(host.store.getVm(nameOrId).id).preempt("The VM was killed.");
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

  /** `force` also takes a VM that runs, starts or is busy. */
  async remove(nameOrId: string, force: boolean, call: Call): Promise<void> {
    const host = this.#host;
    const { id } = host.store.getVm(nameOrId);
    if (force) await this.loop(id).preempt("The VM was removed.");
    const vm = host.store.getVm(id);
    if (!force) assertCan("remove", vm.state.phase, vm.name);
    const loop = this.loop(id);
    await loop.exclusive("remove", vm.name, () => this.#remove(vm, call), call.signal);
  }

  async set(nameOrId: string, change: SetVm, call: Call): Promise<VmRecord> {
    const host = this.#host;
    const vm = host.store.getVm(nameOrId);
    assertCan("set", vm.state.phase, vm.name);
    return this.#act(vm, "set", call, async () => {
      const { diskBytes } = change;
      if (diskBytes !== undefined && diskBytes < vm.spec.diskBytes) {
        throw new HearthError("input.invalid", `disk: ${vm.name}'s disk cannot become smaller.`, {
          hint: "Make a new VM with a smaller disk, and copy the files.",
        });
      }
      if (diskBytes !== undefined) await host.disks.grow(vmPaths(host.folders, vm.id).disk, diskBytes);
      host.store.setSpec(vm.id, { ...vm.spec, ...withoutUndefined(change) });
    });
  }

  /** The agent of a VM that runs. @throws HearthError `vm.wrong_phase`, `agent.unreachable` */
  async guest(
    nameOrId: string,
    action: "exec" | "copy",
    signal: AbortSignal,
  ): Promise<{ vm: VmRecord; guest: Guest }> {
    const vm = this.#host.store.getVm(nameOrId);
    assertCan(action, vm.state.phase, vm.name);
    const attachment = this.#attachments.get(vm.id);
    if (attachment === undefined)
      throw new HearthError("vm.busy", `${vm.name} is being taken over by hearthd.`);
    this.#host.store.touch(vm.id);
    return { vm, guest: await attachment.guest(signal) };
  }

  responsive(id: VmId): boolean {
    return this.#loops.get(id)?.responsive ?? true;
  }

  /** The loop of a VM in the store. */
  loop(id: VmId): VmLoop {
    return this.#loops.get(id) ?? this.#loop(id, this.#host.store.getVm(id).state);
  }

  /** After a restart of hearthd: follows a VMM that still runs. */
  adopt(vm: VmRecord, handle: VmHandle): void {
    const attachment = this.#attach(vm.id, handle);
    this.#attachments.set(vm.id, attachment);
    this.#armLifetime(vm, attachment);
    attachment.connectGuest();
  }

  /** After a restart of hearthd: the VMM is gone, and nobody saw how. */
  lost(vm: VmRecord): void {
    this.loop(vm.id).send({ type: "vmm-exited", exit: { reason: "unseen", atMs: this.#host.now() } });
  }

  /** Lets go of all VMs; they keep running. */
  detachAll(): void {
    for (const attachment of this.#attachments.values()) attachment.detach();
    this.#attachments.clear();
  }

  // What follows runs inside `exclusive`.

  async #start(vm: VmRecord, call: Call): Promise<void> {
    const host = this.#host;
    const loop = this.loop(vm.id);
    const back = vm.state;
    loop.send({ type: "start-asked", atMs: host.now() });
    try {
      const driver = await chooseDriver(host, vm.spec, call.signal);
      const start = {
        vm,
        driver,
        onProgress: call.onProgress,
        signal: call.signal,
        attach: (handle: VmHandle) => this.#attach(vm.id, handle),
        commit: (attachment: Attachment) => {
          this.#attachments.set(vm.id, attachment);
          loop.send({ type: "agent-ready", handle: attachment.handle, atMs: host.now() });
        },
      };
      await this.#flow(START_VM, vm.id, { back }, { host, id: vm.id, start }, call);
      host.store.touch(vm.id);
      const attachment = this.#attachments.get(vm.id);
      if (attachment) this.#armLifetime(host.store.getVm(vm.id), attachment);
    } catch (error) {
      const failure = toHearthError(error);
      this.#attachments.delete(vm.id);
      if (call.signal.aborted) loop.send({ type: "start-cancelled", back });
      else
        loop.send({
          type: "start-failed",
          code: failure.code,
          message: errorBody(failure).message,
          atMs: host.now(),
        });
      throw failure;
    }
  }

  async #stop(vm: VmRecord, plan: StopPlan, call: Call): Promise<void> {
    const host = this.#host;
    const loop = this.loop(vm.id);
    const handle = handleOf(loop.state);
    if (handle === undefined) return; // It went down while the request was on its way.
    const attachment = this.#attachments.get(vm.id);
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
        attachment?.detach();
        this.#attachments.delete(vm.id);
        loop.send({ type: "vmm-exited", exit });
      },
    };
    await this.#flow(STOP_VM, vm.id, plan, context, call);
    this.#afterEnd(vm.id);
  }

  async #remove(vm: VmRecord, call: Call): Promise<void> {
    const host = this.#host;
    this.#attachments.get(vm.id)?.detach();
    this.#attachments.delete(vm.id);
    await this.#flow(REMOVE_VM, vm.id, {}, { host, id: vm.id }, call);
    this.loop(vm.id).remove();
    this.#loops.delete(vm.id);
    host.bus.publish({ type: "vm.removed", atMs: host.now(), id: vm.id, name: vm.name });
  }

  async #switch(nameOrId: string, action: "pause" | "resume", call: Call): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    assertCan(action, vm.state.phase, vm.name);
    return this.#act(vm, action, call, async (signal) => {
      const handle = handleOf(vm.state);
      if (handle === undefined) return;
      await driverOf(this.#host, handle.driver)[action](handle, signal);
      this.loop(vm.id).send({ type: action === "pause" ? "paused" : "resumed" });
    });
  }

  async #act(
    vm: VmRecord,
    action: string,
    call: Call,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<VmRecord> {
    const host = this.#host;
    try {
      await this.loop(vm.id).exclusive(action, vm.name, work, call.signal);
    } catch (error) {
      const failure = toHearthError(error);
      if (failure.code !== "vm.busy" && host.store.findVm(vm.id))
        host.store.setError(vm.id, failure.code, failure);
      const body = errorBody(failure, call.operation);
      host.bus.publish({ type: "vm.error", atMs: host.now(), id: vm.id, name: vm.name, action, error: body });
      throw failure;
    }
    return host.store.getVm(vm.id);
  }

  async #flow<Context>(
    flow: Flow<Context>,
    id: VmId,
    plan: unknown,
    context: Context,
    call: Call,
  ): Promise<void> {
    const log = this.#host.log.child({ operation: call.operation });
    const startedAt = performance.now();
    log.event("flow.started", { flow: flow.kind, vm: id });
    using journal = this.#host.journals.open(operationIdFrom(this.#host.random(6)), flow.kind, id, plan);
    try {
      await runFlow(flow, context, journal, log);
    } catch (error) {
      log.event("flow.failed", { flow: flow.kind, vm: id, error });
      throw error;
    }
    log.event("flow.done", { flow: flow.kind, vm: id, tookMs: Math.round(performance.now() - startedAt) });
  }

  #loop(id: VmId, state: VmState): VmLoop {
    const host = this.#host;
    const loop = new VmLoop(state, (next, before) => {
      host.store.setState(id, next);
      const { name } = host.store.getVm(id);
      host.log.child({ vm: id }).event("vm.phase", { from: before.phase, to: next.phase });
      host.bus.publish({ type: "vm.phase", atMs: host.now(), id, name, phase: next.phase });
    });
    this.#loops.set(id, loop);
    return loop;
  }

  #attach(id: VmId, handle: VmHandle): Attachment {
    const host = this.#host;
    const events = {
      exited: (exit: VmExit) => this.#onExit(id, exit),
      silent: (silentMs: number) => this.#onSilent(id, handle, silentMs),
    };
    return new Attachment(
      driverOf(host, handle.driver),
      handle,
      host.guests,
      events,
      host.log.child({ vm: id }),
    );
  }

  /** The VMM ended and no stop flow asked for it. */
  #onExit(id: VmId, exit: VmExit): void {
    const loop = this.loop(id);
    const { phase } = loop.state;
    if (phase === "starting" || phase === "stopping") return; // The flow under way sees it, too.
    this.#attachments.delete(id);
    loop.send({ type: "vmm-exited", exit });
    const host = this.#host;
    if (loop.state.phase === "failed")
      host.store.setError(id, loop.state.code, new Error(loop.state.message));
    void host.files
      .removeTree(vmRunsDir(host.folders), vmPaths(host.folders, id).runDir)
      .catch((error: unknown) => {
        host.log.event("clean.left_over", { path: vmPaths(host.folders, id).runDir, error });
      });
    this.#afterEnd(id);
  }

  /** A VM that is to be removed when it does not run any more goes now. */
  #afterEnd(id: VmId): void {
    const vm = this.#host.store.findVm(id);
    if (vm === undefined || !vm.spec.autoRemove) return;
    void this.loop(id)
      .idle()
      .then(() => this.remove(id, false, this.background()))
      .catch((error: unknown) => {
        // Somebody else removed it, or started it again, in between.
        const { code } = toHearthError(error);
        if (!["vm.not_found", "vm.wrong_phase", "vm.busy"].includes(code)) {
          this.#host.log.event("daemon.bug", { where: "remove after end", error });
        }
      });
  }

  #onSilent(id: VmId, handle: VmHandle, silentMs: number): void {
    const host = this.#host;
    const loop = this.loop(id);
    const responsive = silentMs === 0;
    if (loop.responsive !== responsive) {
      loop.setResponsive(responsive);
      const { name } = host.store.getVm(id);
      host.bus.publish({ type: "vm.responsive", atMs: host.now(), id, name, responsive });
      if (!responsive) host.log.child({ vm: id }).event("vm.unhealthy", { silentMs });
    }
    if (silentMs < host.config.health.killAfterMs) return;
    const reason = `The VMM did not answer for ${Math.round(silentMs / 1000)} s.`;
    host.log.child({ vm: id }).event("vm.killed", { reason });
    host.store.setError(id, "vmm.unresponsive", new Error(reason));
    const deadline = AbortSignal.timeout(30_000);
    driverOf(host, handle.driver)
      .stop(handle, "kill", deadline)
      .catch((error: unknown) => host.log.event("daemon.bug", { where: "kill of a silent VMM", error }));
  }

  #armLifetime(vm: VmRecord, attachment: Attachment): void {
    const { lifetimeMs } = vm.spec;
    if (lifetimeMs === undefined || !("startedAtMs" in vm.state)) return;
    attachment.expireAt(vm.state.startedAtMs + lifetimeMs, () => {
      this.#host.log.child({ vm: vm.id }).event("vm.killed", { reason: "Its lifetime is over." });
      this.stop(vm.id, { mode: "graceful", timeoutMs: 10_000 }, this.background()).catch((error: unknown) => {
        this.#host.log.event("daemon.bug", { where: "end of a lifetime", error });
      });
    });
  }
}

function withoutUndefined<Value extends object>(value: Value): Partial<Value> {
  return Object.fromEntries(
    Object.entries(value).filter(([, field]) => field !== undefined),
  ) as Partial<Value>;
}
