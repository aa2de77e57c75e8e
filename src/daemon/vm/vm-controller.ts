/**
 * One controller owns one VM: its state, the action that is under way, hearthd's hold on its VMM, and its timers.
 * Everybody else asks it for an action, sends it an event, or reads its state.
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

/** What a controller asks of those who know all VMs. */
export type ControllerOwner = {
  /** Something was done to a VM. */
  busy(): void;
  /** The VMM of the VM has ended by itself. */
  ended(controller: VmController, ranMs: number): void;
  /** Recovers what is left of the VM's flows. @throws HearthError `vm.unclean` */
  recoverFlows(id: VmId, signal: AbortSignal): Promise<void>;
  /** Stops the VM, alone on it. */
  stop(controller: VmController, call: Call): Promise<void>;
  /** Removes the VM, alone on it. */
  remove(controller: VmController, call: Call): Promise<void>;
  /** A call that nobody waits for. */
  background(): Call;
};

const SUSPENDING: ReadonlySet<string> = new Set(["suspend", "wake"]);
/** For the kernel to take a killed process away, also under load. */
const KILL_MS = 15_000;
/** After a stop at the end of a lifetime that failed. */
const LIFETIME_RETRY_MS = 10_000;

/** A VM that is in the store, or about to be. */
export class VmController {
  readonly host: Host;
  readonly id: VmId;
  readonly lock = new ActionLock();
  readonly #owner: ControllerOwner;
  readonly #status: StatusFollower;
  #state: VmState;
  #responsive = true;
  #attachment: Attachment | undefined;
  /** The removal of what a VMM that ended by itself has left. */
  #cleaning: Promise<void> | undefined;
  /** Why hearthd ends a VMM that nobody asked to end. */
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

  /** The VM is suspended, or about to be, or waking: who wants it to run has to wait. */
  get isSuspending(): boolean {
    return this.#state.phase === "suspended" || SUSPENDING.has(this.lock.action ?? "");
  }

  /** False while the VMM does not answer. */
  get isResponsive(): boolean {
    return this.#responsive;
  }

  /** hearthd's hold on the VMM, once the VM runs. */
  get attachment(): Attachment | undefined {
    return this.#attachment;
  }

  /**
   * Stores the state that the event leads to, and tells everybody. `alongside` writes to the store in the same
   * transaction; nobody reads the new state before it is stored.
   */
  send(event: VmEvent, alongside: () => void = () => {}): void {
    if (this.lock.isClosed) return; // The end of a VMM may be heard of after its VM is gone.
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
   * Runs an action alone on the VM. What an earlier one has left is cleaned up before it; an error is kept with the VM
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

  /** Admits an action that ends whatever is done to the VM; `kill` also ends the VMM at once. */
  takeOver(why: string, kill: boolean): Admission {
    return { takeOver: why, meanwhile: kill ? () => this.#endVmm() : undefined };
  }

  /** Tells everybody, but not of what hearthd does for itself. */
  publish({ spec }: Pick<VmRecord, "spec">, event: ApiEvent): void {
    if (spec.hidden === undefined) this.host.bus.publish(event);
  }

  /** Notes that the VM is used. That is worth less than the use: on a full disk it stays as it was. */
  touch(): void {
    try {
      this.host.store.touch(this.id);
    } catch (error) {
      this.host.log.child({ vm: this.id }).event("vm.use_not_kept", { error });
    }
  }

  /** The agent of a VM that runs, for commands and copies. @throws HearthError `agent.unreachable` */
  guest(attachment: Attachment, signal: AbortSignal): Promise<Guest> {
    // Whoever pauses, saves or stops it, or tells it something, has a deadline of its own.
    const expected = (): boolean => this.#state.phase === "running" && !this.lock.isBusy;
    return attachment.watchedGuest(expected, signal);
  }

  /** Follows a VMM that was just started. It is the VM's own from `keep` on. */
  attach(handle: VmHandle): Attachment {
    const { host, id } = this;
    this.#responsive = true; // Whatever became of an earlier VMM of this VM.
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

  /** After a restart of hearthd: follows a VMM that still runs. */
  adopt(vm: VmRecord, handle: VmHandle): void {
    const attachment = this.attach(handle);
    this.keep(attachment);
    this.armLifetime(vm);
    // The last hearthd may have ended while it saved this VM: a guest that was frozen for that waits for a host.
    attachment.owe(async (guest, signal) => void (await guest.thaw(this.host.now(), signal)));
    attachment.connectGuest();
  }

  /** Lets go of the VMM, which runs on. Idempotent. */
  closeSession(): void {
    this.#status.forget();
    this.#attachment?.detach();
    this.#attachment = undefined;
  }

  /** Resolves when what a VMM that ended by itself has left is gone: the next one acquires the same anew. */
  async cleaned(): Promise<void> {
    await this.#cleaning;
  }

  /** Stops the VM when its lifetime is over, if it has one. */
  armLifetime({ spec, state }: Pick<VmRecord, "spec" | "state">): void {
    if (spec.lifetimeMs === undefined || !("startedAtMs" in state)) return;
    const { startedAtMs } = state;
    this.#attachment?.expireAt(startedAtMs + spec.lifetimeMs, () => {
      this.host.log.child({ vm: this.id }).event("vm.killed", { reason: "Its lifetime is over." });
      void this.#endLifetime(startedAtMs);
    });
  }

  /** Removes a VM that does not run any more and is not to be kept. */
  afterEnd(): void {
    if (this.host.store.findVm(this.id)?.spec.autoRemove === true) void this.#removeWhenFree();
  }

  /** A lifetime is a limit of what its owner does not trust: it ends after any action that is under way, and until it does. */
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

  /** Somebody may have started it again in between, or removed it. */
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
   * Acts on the end of a VMM that no flow asked for. Also of one that ended just before a start or a stop that was under
   * way has made it the VM's again: those look for themselves as long as they last.
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

  /** Shows that a VMM does not answer, and kills it when it has not for too long. */
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

  /** Kills a VMM that nobody asked to end; the VM is failed then. Where that fails, the VM may end in another way later. */
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

  /** Ends whatever VMM there is, so that all that waits for it fails by itself. @throws HearthError when it does not end */
  async #endVmm(): Promise<void> {
    const { host, id } = this;
    const handle = handleOf(this.#state);
    if (handle === undefined) return endVmm(host, id); // One that starts, and is not known yet.
    await driverOf(host, handle.driver).stop(handle, "kill", AbortSignal.timeout(KILL_MS));
  }

  /** Tries again what could not be undone or finished of the VM's last flow; it may not be there any more after that. */
  async #cleanUp(signal: AbortSignal): Promise<void> {
    if (this.#state.phase !== "failed" || this.#state.code !== "vm.unclean") return;
    await this.#owner.recoverFlows(this.id, signal);
    this.host.store.getVm(this.id);
  }

  /** Keeps what failed with the VM. It is worth more than that the store cannot keep it, as on a full disk. */
  #keepError(failure: HearthError): void {
    const { store, log } = this.host;
    try {
      if (store.findVm(this.id) !== undefined) store.setError(this.id, failure.code, failure);
    } catch (error) {
      log.child({ vm: this.id }).event("vm.error_not_kept", { failure: errorBody(failure).message, error });
    }
  }
}
