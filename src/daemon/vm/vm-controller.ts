/**
 * Owns one VM: its state, the action under way, the session with its VMM, and its timers. All other code asks the
 * controller for an action, sends it an event, or reads its state.
 */
import { errorBody, toHearthError } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import type { ApiEvent } from "#api/events.ts";
import { endVmm } from "#daemon/flows/start-flow.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import { ActionLock } from "#daemon/vm/action-lock.ts";
import type { Admission } from "#daemon/vm/action-lock.ts";
import { Attachment } from "#daemon/vm/attachment.ts";
import { StatusFollower } from "#daemon/vm/follow-status.ts";
import { releaseHostResources } from "#daemon/vm/host-resources.ts";
import type { Call } from "#daemon/vm/vms.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import { decide } from "#model/decide-vm.ts";
import type { VmEvent, VmFailure } from "#model/decide-vm.ts";
import type { VmId } from "#model/ids.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";
import { handleOf, moveTo } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";

/** The functions that a controller needs of the code that knows all VMs. */
export type ControllerOwner = {
  /** Notes that something was done to a VM. */
  busy(): void;
  /** Reports that the VM's VMM has ended by itself, after `ranMs`. */
  ended(controller: VmController, ranMs: number): void;
  /** Recovers the open flows of the VM. @throws HearthError `vm.unclean` */
  recoverFlows(id: VmId, signal: AbortSignal): Promise<void>;
  /** Stops the VM. The caller has its lock. */
  stop(controller: VmController, call: Call): Promise<void>;
  /** Removes the VM. The caller has its lock. */
  remove(controller: VmController, call: Call): Promise<void>;
  /** Returns the context of work that no client waits for. */
  background(): Call;
};

/** The action that starts a suspended VM. The resume of a paused VM is another one. */
export const RESUME_FROM_SUSPEND = "resume from suspend";
const SUSPENDING: ReadonlySet<string> = new Set(["suspend", RESUME_FROM_SUSPEND]);
/** The time for the kernel to end a killed process, also under load. */
const KILL_MS = 15_000;
/** The wait after the stop at the end of a lifetime has failed. */
const LIFETIME_RETRY_MS = 10_000;

/** Controls a VM that is in the store, or about to be. */
export class VmController {
  readonly host: Host;
  readonly id: VmId;
  readonly lock = new ActionLock();
  readonly #owner: ControllerOwner;
  readonly #status: StatusFollower;
  #state: VmState;
  #responsive = true;
  #attachment: Attachment | undefined;
  /** The clean-up after a VMM that ended by itself. */
  #cleaning: Promise<void> | undefined;
  /** The reason for which hearthd ends a VMM that no user asked to end. */
  #failure: VmFailure | undefined;

  constructor(host: Host, id: VmId, state: VmState, owner: ControllerOwner) {
    this.host = host;
    this.id = id;
    this.#state = state;
    this.#owner = owner;
    this.#status = new StatusFollower(this, (failure) => this.#kill(failure));
  }

  get state(): VmState {
    return this.#state;
  }

  /** True while the VM is suspended, being suspended, or being resumed: a caller that needs it running has to wait. */
  get isSuspending(): boolean {
    return this.#state.phase === "suspended" || SUSPENDING.has(this.lock.action ?? "");
  }

  /** False while the VMM does not answer. */
  get isResponsive(): boolean {
    return this.#responsive;
  }

  /** The session with the VMM, once the VM runs. */
  get attachment(): Attachment | undefined {
    return this.#attachment;
  }

  /**
   * Stores the state that the event leads to, and publishes it. `alongside` writes to the store in the same
   * transaction; the new state is not visible before it is stored.
   */
  send(event: VmEvent, alongside: () => void = () => {}): void {
    if (this.lock.isClosed) return; // The end of a VMM may be noticed after its VM was removed.
    const before = this.#state;
    const next = decide(before, event);
    if (next === before) return;
    const { host, id } = this;
    const { name, spec } = host.store.getVm(id);
    moveTo(before, next);
    host.store.transaction(
      () => {
        alongside();
        host.store.setState(id, next);
      },
      { reserve: true },
    );
    this.#state = next;
    this.#owner.busy();
    const { phase } = next;
    const reason = "exit" in event ? event.exit.reason : undefined;
    host.log.child({ vm: id }).event("vm.phase", { from: before.phase, to: phase, reason });
    const cause = next.phase === "paused" ? next.cause : undefined;
    this.publish({ spec }, { type: "vm.phase", atMs: host.now(), id, name, phase, cause, reason });
    this.#noticeEnd();
  }

  /**
   * Runs an action with the VM's lock. Recovers first what an earlier action has left. An error is stored with the VM,
   * and published.
   * @throws HearthError as `ActionLock.run`, and `vm.unclean`
   */
  async act<Result>(
    action: string,
    admission: Admission,
    call: Call,
    work: (signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    const vm = this.host.store.getVm(this.id);
    try {
      return await this.lock.run(action, vm.name, admission, call.signal, async (signal) => {
        if (action !== "remove") await this.#cleanUp(signal);
        return work(signal);
      });
    } catch (error) {
      const failure = toHearthError(error);
      if (failure.code !== "vm.busy") this.#keepError(failure);
      const { id, name } = vm;
      const body = errorBody(failure, call.operation);
      this.publish(vm, { type: "vm.error", atMs: this.host.now(), id, name, action, error: body });
      throw failure;
    }
  }

  /** Admits an action that aborts the one under way; with `kill`, the VMM is also ended at once. */
  takeOver(why: string, kill: boolean): Admission {
    return { takeOver: why, meanwhile: kill ? () => this.#endVmm() : undefined };
  }

  /** Publishes an event, unless the VM is internal. */
  publish({ spec }: Pick<VmRecord, "spec">, event: ApiEvent): void {
    if (spec.internal === undefined) this.host.bus.publish(event);
  }

  /** Notes that the VM is used. If that cannot be stored, as on a full disk, it is logged, and the use continues. */
  touch(): void {
    try {
      this.host.store.touch(this.id);
    } catch (error) {
      this.host.log.child({ vm: this.id }).event("vm.use_not_kept", { error });
    }
  }

  /** Returns the agent of a running VM, for commands and copies. @throws HearthError `agent.unreachable` */
  guest(attachment: Attachment, signal: AbortSignal): Promise<Guest> {
    // An action under way pauses, saves or stops the VM, or talks to the agent, and has its own deadline.
    const expected = (): boolean => this.#state.phase === "running" && !this.lock.isBusy;
    return attachment.watchedGuest(expected, signal);
  }

  /** Opens a session with a VMM that was just started. The VM's state depends on it from `keep` on. */
  attach(handle: VmHandle): Attachment {
    const { host, id } = this;
    this.#responsive = true; // The silence of an earlier VMM says nothing about this one.
    const events = {
      exited: () => this.#noticeEnd(),
      silent: (silentMs: number) => this.#onSilent(silentMs),
      status: (status: VmmStatus) => this.#status.saw(status),
    };
    const driver = driverOf(host, handle.driver);
    return new Attachment(driver, handle, host.guests, events, host.log.child({ vm: id }));
  }

  keep(attachment: Attachment): void {
    this.#attachment = attachment;
  }

  /** Opens a session with a VMM that still runs, after a restart of hearthd. */
  adopt(vm: VmRecord, handle: VmHandle): void {
    const attachment = this.attach(handle);
    this.keep(attachment);
    this.armLifetime(vm);
    // The last hearthd may have ended while it saved this VM: a guest that was frozen for that is thawed.
    attachment.runOnConnect(async (guest, signal) => void (await guest.thaw(this.host.now(), signal)));
    attachment.connectGuest();
  }

  /** Closes the session; the VMM keeps running. Idempotent. */
  closeSession(): void {
    this.#status.reset();
    this.#attachment?.detach();
    this.#attachment = undefined;
  }

  /** Resolves when the clean-up after a VMM that ended by itself is done. The next VMM acquires the same resources. */
  async cleaned(): Promise<void> {
    await this.#cleaning;
  }

  /** Stops the VM at the end of its lifetime, if it has one. */
  armLifetime({ spec, state }: Pick<VmRecord, "spec" | "state">): void {
    if (spec.lifetimeMs === undefined || !("startedAtMs" in state)) return;
    const { startedAtMs } = state;
    this.#attachment?.expireAt(startedAtMs + spec.lifetimeMs, () => {
      this.host.log.child({ vm: this.id }).event("vm.killed", { reason: "Its --timeout is over." });
      void this.#endLifetime(startedAtMs);
    });
  }

  /** Removes the VM, now that it has ended, if it was created with `autoRemove`. */
  afterEnd(): void {
    if (this.host.store.findVm(this.id)?.spec.autoRemove === true) void this.#removeWhenFree();
  }

  /**
   * Stops the VM after the action under way, and tries again until it has ended: a lifetime limits VMs that are not
   * trusted.
   */
  async #endLifetime(startedAtMs: number): Promise<void> {
    const isOver = (): boolean => !("startedAtMs" in this.#state) || this.#state.startedAtMs !== startedAtMs;
    try {
      const call = this.#owner.background();
      await this.act("stop", "wait", call, async (signal) => {
        if (!isOver()) await this.#owner.stop(this, { ...call, signal });
      });
    } catch (error) {
      if (toHearthError(error).code === "vm.not_found") return;
      this.host.log.child({ vm: this.id }).event("vm.lifetime_not_ended", { error });
      this.#attachment?.expireAt(Date.now() + LIFETIME_RETRY_MS, () => void this.#endLifetime(startedAtMs));
    }
  }

  /** The VM may have been started again, or removed, before this gets its turn. */
  async #removeWhenFree(): Promise<void> {
    const call = this.#owner.background();
    try {
      await this.act("remove", "wait", call, async () => {
        const { phase } = this.#state;
        if (phase === "stopped" || phase === "failed") await this.#owner.remove(this, call);
      });
    } catch (error) {
      if (toHearthError(error).code === "vm.not_found") return;
      this.host.log.event("daemon.bug", { where: "remove after end", error });
    }
  }

  /**
   * Acts on the end of a VMM that no flow asked for. A start or a stop that is under way looks for that end itself;
   * `send` calls this again once its result is stored.
   */
  #noticeEnd(): void {
    const exit = this.#attachment?.exit;
    const { phase } = this.#state;
    if (exit === undefined || phase === "starting" || phase === "stopping") return;
    const { host, id } = this;
    const failure = this.#failure;
    this.#failure = undefined;
    const ranMs = "startedAtMs" in this.#state ? exit.atMs - this.#state.startedAtMs : 0;
    this.closeSession();
    this.send({ type: "vmm-exited", exit, failure });
    if (this.#state.phase === "failed")
      host.store.setError(id, this.#state.code, new Error(this.#state.message));
    const cleaning = this.#releaseAfterEnd().finally(() => {
      if (this.#cleaning === cleaning) this.#cleaning = undefined;
    });
    this.#cleaning = cleaning;
    this.afterEnd();
    this.#owner.ended(this, ranMs);
  }

  async #releaseAfterEnd(): Promise<void> {
    const { host, id } = this;
    try {
      await releaseHostResources(host, id);
    } catch (error) {
      host.log.event("clean.left_over", { path: vmPaths(host.dirs, id).runDir, error });
    }
  }

  /** Publishes that a VMM does not answer, and kills it when it has not for too long. */
  #onSilent(silentMs: number): void {
    const { host, id } = this;
    const isResponsive = silentMs === 0;
    if (this.#responsive !== isResponsive) {
      this.#responsive = isResponsive;
      const vm = host.store.getVm(id);
      const event = {
        type: "vm.responsive",
        atMs: host.now(),
        id,
        name: vm.name,
        responsive: isResponsive,
      } as const;
      this.publish(vm, event);
      if (!isResponsive) host.log.child({ vm: id }).event("vm.unhealthy", { silentMs });
    }
    if (silentMs < host.config.health.killAfterMs) return;
    const message = `The VMM did not answer for ${Math.round(silentMs / 1000)} s.`;
    this.#kill({ code: "vmm.unresponsive", message });
  }

  /**
   * Kills a VMM that no user asked to end; the VM becomes `failed`. If the kill fails, the VM may end in another way
   * later.
   */
  #kill(failure: VmFailure): void {
    const { host, id } = this;
    const log = host.log.child({ vm: id });
    const handle = handleOf(this.#state);
    if (handle === undefined) return;
    log.event("vm.killed", { reason: failure.message });
    this.#failure = failure;
    driverOf(host, handle.driver)
      .stop(handle, "kill", AbortSignal.timeout(2 * KILL_MS))
      .catch((error: unknown) => {
        this.#failure = undefined;
        log.event("daemon.bug", { where: "kill of a VMM that failed", error });
      });
  }

  /**
   * Ends the VM's VMM, if there is one, so that all that waits for it fails by itself. @throws HearthError when it does
   * not end
   */
  async #endVmm(): Promise<void> {
    const { host, id } = this;
    const handle = handleOf(this.#state);
    if (handle === undefined) return endVmm(host, id); // A VMM that is being started has no handle yet.
    await driverOf(host, handle.driver).stop(handle, "kill", AbortSignal.timeout(KILL_MS));
  }

  /** Tries again to undo or finish the VM's last flow. That may remove the VM: the store then throws `vm.not_found`. */
  async #cleanUp(signal: AbortSignal): Promise<void> {
    if (this.#state.phase !== "failed" || this.#state.code !== "vm.unclean") return;
    await this.#owner.recoverFlows(this.id, signal);
    this.host.store.getVm(this.id);
  }

  /**
   * Stores an error with the VM. If the store cannot, as on a full disk, that is logged: the error itself matters more.
   */
  #keepError(failure: HearthError): void {
    const { store, log } = this.host;
    try {
      if (store.findVm(this.id) !== undefined) store.setError(this.id, failure.code, failure);
    } catch (error) {
      log.child({ vm: this.id }).event("vm.error_not_kept", { failure: errorBody(failure).message, error });
    }
  }
}
