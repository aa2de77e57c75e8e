/** Has the controllers of all VMs, and answers what concerns all of them at once. */
import { unlessAborted, within } from "#base/deadline.ts";
import { recoverFlowsOf } from "#daemon/lifecycle/recover-flow.ts";
import type { Host } from "#daemon/host.ts";
import { requestContext } from "#daemon/operations/request-context.ts";
import { removeVm } from "#daemon/vm/remove-vm.ts";
import { startVm } from "#daemon/vm/start-vm.ts";
import type { StartResult } from "#daemon/vm/start-vm.ts";
import { SHUTDOWN_GRACE_MS, stopVm } from "#daemon/vm/stop-vm.ts";
import { VmController } from "#daemon/vm/vm-controller.ts";
import type { ControllerOwner } from "#daemon/vm/vm-controller.ts";
import type { StartOptions } from "#daemon/vm/start-source.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { operationIdFrom } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";
import { HEARTHD } from "#model/principal.ts";
import type { VmRecord } from "#model/vm.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmState } from "#model/vm-state.ts";

const RECOVERY = "recovery";
/**
 * The time for which a request waits for the recovery of its VM. Most take milliseconds; a stop of an hour takes its
 * hour.
 */
const WAIT_MS = 30_000;

/** Makes the controller of a VM when it is first needed. */
export class VmControllers implements ControllerOwner {
  readonly host: Host;
  /** Called for each VM that has booted, and was not restored. */
  onBooted: (vm: VmRecord, started: StartResult) => void = () => {};
  /** Called for each VM whose VMM has ended by itself, with the time that it ran. */
  onEnded: (controller: VmController, ranMs: number) => void = () => {};
  readonly #controllers = new Map<VmId, VmController>();
  #lastBusyAt = performance.now();

  constructor(host: Host) {
    this.host = host;
  }

  /** Returns the controller of a VM in the store. @throws HearthError `vm.not_found` */
  of(id: VmId): VmController {
    return this.#controllers.get(id) ?? this.make(id, this.host.store.getVm(id).state);
  }

  /** Makes the controller of a VM whose row is yet to be inserted. */
  make(id: VmId, state: VmState): VmController {
    const controller = new VmController(this.host, id, state, this);
    this.#controllers.set(id, controller);
    return controller;
  }

  /** Removes the controller of a VM that was removed, or never made. Idempotent. */
  removeController(id: VmId): void {
    this.#controllers.get(id)?.closeSession();
    this.#controllers.get(id)?.lock.close();
    this.#controllers.delete(id);
  }

  /** Returns for how long nothing has been done to any VM. */
  quietMs(): number {
    if (this.#isBusy()) this.busy();
    return performance.now() - this.#lastBusyAt;
  }

  /** Resolves when no action is under way on any VM, and no clean-up after a VMM. */
  async idle(): Promise<void> {
    while (this.#isBusy()) await this.#eachIdle();
    await this.#eachIdle();
  }

  async #eachIdle(): Promise<void> {
    const all = [...this.#controllers.values()];
    await Promise.all(all.map(async (one) => void (await Promise.all([one.lock.idle(), one.cleaned()]))));
  }

  /** Closes all sessions; the VMMs keep running. */
  closeSessions(): void {
    for (const controller of this.#controllers.values()) controller.closeSession();
  }

  /**
   * Runs the recovery of a VM, which does not throw, with the VM's lock. Its signal aborts when a kill or a forced
   * removal takes over.
   */
  async recover({ id, name }: VmRecord, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal: never } = new AbortController();
    await this.of(id).lock.run(RECOVERY, name, "refuse", never, work);
  }

  /** True while the VM is not recovered yet, so that its row may be wrong. */
  isRecovering(id: VmId): boolean {
    return this.of(id).lock.action === RECOVERY;
  }

  /**
   * Returns the VM, once it is recovered. If that takes longer than `WAIT_MS`, the VM is still locked, and the request
   * is refused.
   * @throws HearthError `vm.not_found`, `vm.busy`, and the reason of `signal`
   */
  async recovered(nameOrId: string, signal: AbortSignal): Promise<VmRecord> {
    const vm = this.host.store.getVm(nameOrId);
    if (!this.isRecovering(vm.id)) return vm;
    const { lock } = this.of(vm.id);
    const done = within(lock.done, WAIT_MS).then(() => undefined);
    await unlessAborted(done, signal);
    const now = this.host.store.getVm(nameOrId);
    if (this.isRecovering(now.id)) lock.assertFree(vm.name);
    return now;
  }

  background(signal: AbortSignal = new AbortController().signal): Call {
    const operation = operationIdFrom(this.host.random(6));
    return requestContext(this.host, { principal: HEARTHD, operation, signal });
  }

  /** Starts a VM. The caller has its lock. */
  async start(id: VmId, call: Call, options: StartOptions = {}): Promise<void> {
    const { store } = this.host;
    const started = await startVm(this.of(id), store.getVm(id), options, call);
    const vm = store.getVm(id);
    if (handleOf(vm.state)?.snapshot === undefined) this.onBooted(vm, started);
  }

  busy(): void {
    this.#lastBusyAt = performance.now();
  }

  async recoverFlows(id: VmId, signal: AbortSignal): Promise<void> {
    await recoverFlowsOf(this, id, signal);
  }

  ended(controller: VmController, ranMs: number): void {
    this.onEnded(controller, ranMs);
  }

  async stop(controller: VmController, call: Call): Promise<void> {
    const vm = this.host.store.getVm(controller.id);
    await stopVm(controller, vm, { mode: "graceful", timeoutMs: SHUTDOWN_GRACE_MS }, call);
  }

  /** Removes a VM with its disk. The caller has its lock. */
  async remove(controller: VmController, call: Call): Promise<void> {
    const { id } = controller;
    const vm = this.host.store.getVm(id);
    await removeVm(controller, vm, call);
    this.removeController(id);
    controller.publish(vm, { type: "vm.removed", atMs: this.host.now(), id, name: vm.name });
  }

  #isBusy(): boolean {
    return this.#controllers.values().some(({ lock }) => lock.isBusy);
  }
}
