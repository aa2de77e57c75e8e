/** Restarts VMs that ended by themselves, as their restart policy says, and those that rebooted. */
import type { Host } from "#daemon/host.ts";
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { VmControllers } from "#daemon/vm/vm-controllers.ts";
import { toHearthError } from "#base/error.ts";
import type { VmId } from "#model/ids.ts";
import { backOffMs, hasRebooted, restarts, SETTLED_MS } from "#model/restart-policy.ts";

/** Waits before each restart, longer each time, until a VM has run for a while. Does not wait before a first reboot. */
export class Restarts {
  readonly #host: Host;
  readonly #controllers: VmControllers;
  /** The time before a restart; tests shorten it. */
  delayMs: (before: number) => number = backOffMs;
  readonly #ended = new AbortController();
  readonly #waiting = new Map<VmId, NodeJS.Timeout>();
  /** The number of restarts in a row after which the VM soon ended. */
  readonly #inARow = new Map<VmId, number>();
  readonly #work = new Set<Promise<void>>();

  constructor(host: Host, controllers: VmControllers) {
    this.#host = host;
    this.#controllers = controllers;
    controllers.onEnded = (controller, ranMs) => this.#onEnded(controller, ranMs);
  }

  /** Starts VMs that are to run and do not, once all are recovered: the host may have been rebooted. */
  begin(): void {
    for (const { id } of this.#host.store.listVms()) if (this.#isDue(id)) this.#startAfter(id, 0);
  }

  /** Starts no VM from now on. A start that is under way is undone. */
  async end(): Promise<void> {
    this.#ended.abort();
    for (const timer of this.#waiting.values()) clearTimeout(timer);
    this.#waiting.clear();
    await Promise.all(this.#work);
  }

  #onEnded({ id }: VmController, ranMs: number): void {
    if (ranMs >= SETTLED_MS) this.#inARow.delete(id);
    this.#consider(id);
  }

  #consider(id: VmId): void {
    if (!this.#isDue(id)) return void this.#inARow.delete(id);
    const before = this.#inARow.get(id) ?? 0;
    this.#inARow.set(id, before + 1);
    const isReboot = hasRebooted(this.#host.store.getVm(id));
    this.#startAfter(id, isReboot && before === 0 ? 0 : this.delayMs(before));
  }

  #isDue(id: VmId): boolean {
    const vm = this.#host.store.findVm(id);
    return vm !== undefined && vm.desired === "running" && restarts(vm);
  }

  #startAfter(id: VmId, afterMs: number): void {
    if (this.#ended.signal.aborted || this.#waiting.has(id)) return;
    this.#host.log.child({ vm: id }).event("vm.restarts", { afterMs });
    const timer = setTimeout(() => {
      this.#waiting.delete(id);
      const work = this.#start(id).finally(() => this.#work.delete(work));
      this.#work.add(work);
    }, afterMs);
    this.#waiting.set(id, timer.unref());
  }

  /**
   * Starts the VM after the action under way, if it still is to run: it may have been started, stopped or removed
   * meanwhile.
   */
  async #start(id: VmId): Promise<void> {
    if (this.#host.store.findVm(id) === undefined) return void this.#inARow.delete(id);
    const call = this.#controllers.background(this.#ended.signal);
    try {
      await this.#controllers.of(id).act("start", "wait", call, async (signal) => {
        if (this.#isDue(id)) await this.#controllers.start(id, { ...call, signal });
      });
    } catch (error) {
      if (this.#ended.signal.aborted || toHearthError(error).code === "vm.not_found") return;
      this.#consider(id); // The error is stored with the VM.
    }
  }
}
