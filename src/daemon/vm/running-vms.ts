/** The VMs that run: what hearthd holds of each VMM, and what happens when one ends or falls silent by itself. */
import { toHearthError } from "#base/error.ts";
import { Attachment } from "#daemon/vm/attachment.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import { releaseHostResources } from "#daemon/vm/host-resources.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { StatusFollower } from "#daemon/vm/follow-status.ts";
import type { VmFailure } from "#daemon/vm/vm-loop.ts";
import type { VmLoops } from "#daemon/vm/vm-loops.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import type { VmId } from "#model/ids.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** What is asked of the VMs' actions in turn. */
export type EndActions = {
  stop(id: VmId): Promise<unknown>;
  remove(id: VmId): Promise<void>;
};

const KILL_MS = 30_000;
/** After a stop at the end of a lifetime that failed. */
const LIFETIME_RETRY_MS = 10_000;

/** Follows every VMM that runs, and acts when one ends or falls silent without being asked. */
export class RunningVms {
  readonly #host: Host;
  readonly #loops: VmLoops;
  readonly #actions: EndActions;
  readonly #attachments = new Map<VmId, Attachment>();
  readonly #status: StatusFollower;
  readonly #cleaning = new Map<VmId, Promise<void>>();
  /** Why hearthd ends a VMM that nobody asked to end. */
  readonly #failures = new Map<VmId, VmFailure>();

  constructor(host: Host, loops: VmLoops, actions: EndActions) {
    this.#host = host;
    this.#loops = loops;
    this.#actions = actions;
    this.#status = new StatusFollower(host, loops, (id, failure) => this.#kill(id, failure));
  }

  find(id: VmId): Attachment | undefined {
    return this.#attachments.get(id);
  }

  /** The agent of a VM that runs, for commands and copies. @throws HearthError `agent.unreachable` */
  guest(id: VmId, attachment: Attachment, signal: AbortSignal): Promise<Guest> {
    const loop = this.#loops.of(id);
    // Whoever pauses, saves or stops it, or tells it something, has a deadline of its own.
    const expected = (): boolean => loop.state.phase === "running" && !loop.busy;
    return attachment.watchedGuest(expected, signal);
  }

  /** Follows a VMM that was just booted. It is not among the running ones until `keep`. */
  attach(id: VmId, handle: VmHandle): Attachment {
    const host = this.#host;
    this.#loops.of(id).setResponsive(true); // Whatever became of an earlier VMM of this VM.
    const events = {
      exited: (exit: VmExit) => this.#onExit(id, exit),
      silent: (silentMs: number) => this.#onSilent(id, silentMs),
      status: (status: VmmStatus) => this.#status.saw(id, status),
    };
    return new Attachment(
      driverOf(host, handle.driver),
      handle,
      host.guests,
      events,
      host.log.child({ vm: id }),
    );
  }

  /** Resolves when what a VMM has left that ended by itself is gone: the next one makes the same anew. */
  async cleaned(id: VmId): Promise<void> {
    await this.#cleaning.get(id);
  }

  keep(id: VmId, attachment: Attachment): void {
    this.#attachments.set(id, attachment);
  }

  /** Lets go of one VM. Idempotent. */
  drop(id: VmId): void {
    this.#status.forget(id);
    this.#attachments.get(id)?.detach();
    this.#attachments.delete(id);
  }

  /** Lets go of all VMs; they keep running. */
  dropAll(): void {
    for (const id of this.#attachments.keys()) this.drop(id);
  }

  /** After a restart of hearthd: follows a VMM that still runs. */
  adopt(vm: VmRecord, handle: VmHandle): void {
    const attachment = this.attach(vm.id, handle);
    this.keep(vm.id, attachment);
    this.armLifetime(vm);
    // The last hearthd may have ended while it saved this VM: a guest that was frozen for that waits for a host.
    attachment.owe(async (guest, signal) => void (await guest.thaw(this.#host.now(), signal)));
    attachment.connectGuest();
  }

  /** Stops the VM when its lifetime is over, if it has one. */
  armLifetime(vm: VmRecord): void {
    const { lifetimeMs } = vm.spec;
    if (lifetimeMs === undefined || !("startedAtMs" in vm.state)) return;
    const { startedAtMs } = vm.state;
    this.#attachments.get(vm.id)?.expireAt(startedAtMs + lifetimeMs, () => {
      this.#host.log.child({ vm: vm.id }).event("vm.killed", { reason: "Its lifetime is over." });
      void this.#endLifetime(vm.id, startedAtMs);
    });
  }

  /** A lifetime is a limit of what its owner does not trust: it ends after any action that is under way, and until it does. */
  async #endLifetime(id: VmId, startedAtMs: number): Promise<void> {
    try {
      for (;;) {
        await this.#loops.of(id).idle();
        const { state } = this.#loops.of(id);
        if (!("startedAtMs" in state) || state.startedAtMs !== startedAtMs) return; // It has ended already.
        try {
          return void (await this.#actions.stop(id));
        } catch (error) {
          if (toHearthError(error).code !== "vm.busy") throw error;
        }
      }
    } catch (error) {
      const { code } = toHearthError(error);
      if (code === "vm.not_found") return;
      this.#host.log.child({ vm: id }).event("vm.lifetime_not_ended", { error });
      this.#attachments.get(id)?.expireAt(Date.now() + LIFETIME_RETRY_MS, () => {
        void this.#endLifetime(id, startedAtMs);
      });
    }
  }

  /** A VM that is to be removed when it does not run any more goes now. */
  afterEnd(id: VmId): void {
    const vm = this.#host.store.findVm(id);
    if (vm !== undefined && vm.spec.autoRemove) void this.#removeWhenIdle(id);
  }

  /** The VMM ended and no flow asked for it. */
  #onExit(id: VmId, exit: VmExit): void {
    const host = this.#host;
    const loop = this.#loops.of(id);
    const failure = this.#failures.get(id);
    this.#failures.delete(id);
    const { phase } = loop.state;
    if (phase === "starting" || phase === "stopping") return; // The flow under way sees it, too.
    this.drop(id);
    loop.send({ type: "vmm-exited", exit, failure });
    if (loop.state.phase === "failed")
      host.store.setError(id, loop.state.code, new Error(loop.state.message));
    const cleaning = this.#cleanUp(id).finally(() => this.#cleaning.delete(id));
    this.#cleaning.set(id, cleaning);
    this.afterEnd(id);
  }

  async #cleanUp(id: VmId): Promise<void> {
    const host = this.#host;
    try {
      await releaseHostResources(host, id);
    } catch (error) {
      host.log.event("clean.left_over", { path: vmPaths(host.folders, id).runDir, error });
    }
  }

  async #removeWhenIdle(id: VmId): Promise<void> {
    try {
      await this.#loops.of(id).idle();
      await this.#actions.remove(id);
    } catch (error) {
      // Somebody else removed it, or started it again, in between.
      const { code } = toHearthError(error);
      if (["vm.not_found", "vm.wrong_phase", "vm.busy"].includes(code)) return;
      this.#host.log.event("daemon.bug", { where: "remove after end", error });
    }
  }

  /** H6: a VMM that does not answer is shown so, and killed when it has not for too long. */
  #onSilent(id: VmId, silentMs: number): void {
    const host = this.#host;
    const loop = this.#loops.of(id);
    const log = host.log.child({ vm: id });
    const responsive = silentMs === 0;
    if (loop.responsive !== responsive) {
      loop.setResponsive(responsive);
      const { name } = host.store.getVm(id);
      host.bus.publish({ type: "vm.responsive", atMs: host.now(), id, name, responsive });
      if (!responsive) log.event("vm.unhealthy", { silentMs });
    }
    if (silentMs < host.config.health.killAfterMs) return;
    const message = `The VMM did not answer for ${Math.round(silentMs / 1000)} s.`;
    this.#kill(id, { code: "vmm.unresponsive", message });
  }

  /** Kills a VMM that nobody asked to end; the VM is failed then. Where that fails, the VM may end in another way later. */
  #kill(id: VmId, failure: VmFailure): void {
    const host = this.#host;
    const log = host.log.child({ vm: id });
    const handle = handleOf(this.#loops.of(id).state);
    if (handle === undefined) return;
    log.event("vm.killed", { reason: failure.message });
    this.#failures.set(id, failure);
    driverOf(host, handle.driver)
      .stop(handle, "kill", AbortSignal.timeout(KILL_MS))
      .catch((error: unknown) => {
        this.#failures.delete(id);
        log.event("daemon.bug", { where: "kill of a VMM that failed", error });
      });
  }
}
