/** What is done to a VM once it is known to be allowed: by `Vms`, alone on its VM. */
import { errorBody, toHearthError } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import type { ApiEvent } from "#api/events.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import { forgetMemory } from "#daemon/snapshot/delete-snapshot.ts";
import { REMOVE_VM } from "#daemon/flows/remove-flow.ts";
import { logWarnings } from "#daemon/vm/guest-warnings.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import type { StopPlan } from "#daemon/flows/stop-flow.ts";
import type { Host } from "#daemon/host.ts";
import { RunningVms } from "#daemon/vm/running-vms.ts";
import type { EndActions } from "#daemon/vm/running-vms.ts";
import { startVm } from "#daemon/vm/start-vm.ts";
import type { Started, StartParts } from "#daemon/vm/start-vm.ts";
import { stopVm } from "#daemon/vm/stop-vm.ts";
import { VmLoops } from "#daemon/vm/vm-loops.ts";
import { VmRecovery } from "#daemon/vm/vm-recovery.ts";
import type { StartHow } from "#daemon/vm/vm-origin.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { recoverFlowsOf } from "#daemon/lifecycle/recover-flow.ts";
import type { VmId } from "#model/ids.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";
import { handleOf } from "#model/vm-state.ts";

/** For the guest of a VM whose lifetime is over to flush. */
export const LAST_WORDS_MS = 10_000;

/** For the kernel to take a killed process away, also under load. */
const KILL_MS = 15_000;

/** `alone` and `act` run their work alone on the VM; all others are to be called inside of that. */
export class VmActions {
  readonly host: Host;
  readonly loops: VmLoops;
  readonly running: RunningVms;
  readonly recovery: VmRecovery;
  onBooted: (vm: VmRecord, started: Started) => void = () => {};

  constructor(host: Host, ends: EndActions) {
    this.host = host;
    this.loops = new VmLoops(host);
    this.running = new RunningVms(host, this.loops, ends);
    this.recovery = new VmRecovery(host, this.loops, this.running);
  }

  async start(vm: VmRecord, call: Call, how: StartHow = {}): Promise<void> {
    const started = await startVm(this.parts(vm.id), vm, how, call);
    this.touch(vm.id);
    const now = this.host.store.getVm(vm.id);
    this.running.armLifetime(now);
    if (handleOf(now.state)?.snapshot === undefined) this.onBooted(now, started);
    if (vm.state.phase === "suspended") await forgetMemory(this.host, vm.id);
  }

  stop(vm: VmRecord, plan: StopPlan, call: Call): Promise<void> {
    return stopVm(this.parts(vm.id), vm, plan, call);
  }

  parts(id: VmId): StartParts {
    return { host: this.host, running: this.running, loop: this.loops.of(id) };
  }

  /** Sets the clock of a guest that was paused. A guest that does not answer is told the time at its next start. */
  async tellTime(vm: VmRecord, signal: AbortSignal): Promise<void> {
    try {
      const warnings = await this.running
        .find(vm.id)
        ?.ask((guest, inTime) => guest.thaw(this.host.now(), inTime), signal);
      logWarnings(this.host, vm.id, warnings ?? []);
    } catch (error) {
      signal.throwIfAborted();
      this.host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
    }
  }

  /**
   * Drops what a suspended VM had in memory: it is stopped then. `alongside` writes to the store in the same
   * transaction, also for a VM that was not suspended.
   */
  async forget(vm: VmRecord, alongside: () => void = () => {}): Promise<void> {
    if (vm.state.phase !== "suspended") return alongside();
    const exit = { reason: "asked", atMs: this.host.now() } as const;
    this.loops.of(vm.id).send({ type: "forgotten", exit }, alongside);
    await forgetMemory(this.host, vm.id);
  }

  /** Says of a VM that a restore of it has failed, and what comes of that. */
  restorePending(id: VmId, { name, id: snapshot }: SnapshotRecord, error: unknown): void {
    const failure = toHearthError(error);
    if (failure.code === "vm.unclean") return;
    const message =
      `The restore of snapshot ${name ?? snapshot} did not finish, and the next start goes on with it: ` +
      errorBody(failure).message;
    this.loops.of(id).send({ type: "broke", code: failure.code, message, atMs: this.host.now() });
  }

  /** The VM's own disk goes with it; what a command has written into a volume is there for the next VM. */
  async closeVolumes(vm: VmRecord, call: Call): Promise<void> {
    const { phase } = this.loops.of(vm.id).state;
    if (phase !== "running" && phase !== "paused") return;
    try {
      // A hearthd that was just started may not have found the agent yet.
      if (phase === "running") await this.running.find(vm.id)?.guest(AbortSignal.timeout(LAST_WORDS_MS));
    } catch (error) {
      this.host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
    }
    await this.stop(vm, { mode: "graceful", timeoutMs: LAST_WORDS_MS }, call);
  }

  async remove(vm: VmRecord, call: Call): Promise<void> {
    const host = this.host;
    this.running.drop(vm.id);
    try {
      await runJournaled(host, REMOVE_VM, vm.id, {}, { host, id: vm.id }, call);
    } catch (error) {
      this.#notRemoved(vm, error);
      throw error;
    }
    this.loops.drop(vm.id);
    this.publish(vm, { type: "vm.removed", atMs: host.now(), id: vm.id, name: vm.name });
  }

  /** Its disk may be gone already: nothing is to be done to it but to remove the rest. */
  #notRemoved({ id, name }: VmRecord, error: unknown): void {
    const message = `The removal of ${name} did not finish: ${errorBody(error).message}`;
    const failure = { code: "vm.unclean", message } as const;
    const atMs = this.host.now();
    const loop = this.loops.of(id);
    if (handleOf(loop.state) === undefined) loop.send({ type: "broke", ...failure, atMs });
    else loop.send({ type: "vmm-exited", exit: { reason: "unseen", atMs }, failure });
  }

  /** When a VM was last used is worth less than the use: on a full disk it stays as it was. L2. */
  touch(id: VmId): void {
    try {
      this.host.store.touch(id);
    } catch (error) {
      this.host.log.child({ vm: id }).event("vm.use_not_kept", { error });
    }
  }

  async act(
    vm: VmRecord,
    action: string,
    call: Call,
    work: (signal: AbortSignal) => Promise<void>,
    takeOver?: string,
  ): Promise<VmRecord> {
    await this.alone(vm, action, call, work, takeOver);
    return this.host.store.getVm(vm.id);
  }

  /**
   * Ends the VMM of a VM that something is being done to, so that all that waits for the VMM fails by itself, also what
   * does not listen to a signal.
   * @throws HearthError when the VMM cannot be ended
   */
  async endVmmOfBusy(id: VmId): Promise<void> {
    const { busy, state } = this.loops.of(id);
    const handle = handleOf(state);
    if (!busy || handle === undefined) return;
    await driverOf(this.host, handle.driver).stop(handle, "kill", AbortSignal.timeout(KILL_MS));
  }

  /**
   * One action at a time; one that fails is kept with the VM and published. VS-020.
   * @param takeOver as in `VmLoop.exclusive`
   */
  async alone(
    vm: VmRecord,
    action: string,
    call: Call,
    work: (signal: AbortSignal) => Promise<void>,
    takeOver?: string,
  ): Promise<void> {
    const host = this.host;
    const cleanWork = async (signal: AbortSignal): Promise<void> => {
      if (action !== "remove") await this.#cleanUp(vm.id, signal);
      await work(signal);
    };
    try {
      await this.loops.of(vm.id).exclusive(action, vm.name, cleanWork, call.signal, takeOver);
    } catch (error) {
      const failure = toHearthError(error);
      if (failure.code !== "vm.busy") this.#keepError(vm.id, failure);
      const body = errorBody(failure, call.operation);
      this.publish(vm, {
        type: "vm.error",
        atMs: host.now(),
        id: vm.id,
        name: vm.name,
        action,
        error: body,
      });
      throw failure;
    }
  }

  /** What failed is worth more than that the store cannot keep it, as on a full disk. */
  #keepError(id: VmId, failure: HearthError): void {
    const { store, log } = this.host;
    try {
      if (store.findVm(id) !== undefined) store.setError(id, failure.code, failure);
    } catch (error) {
      log.child({ vm: id }).event("vm.error_not_kept", { failure: errorBody(failure).message, error });
    }
  }

  /**
   * Tries again what could not be undone of the VM's last flow; it may not be there any more after that.
   * @throws HearthError `vm.unclean`, `vm.not_found`
   */
  async #cleanUp(id: VmId, signal: AbortSignal): Promise<void> {
    const { state } = this.loops.of(id);
    if (state.phase !== "failed" || state.code !== "vm.unclean") return;
    await recoverFlowsOf(this.host, id, signal);
    this.recovery.reload({ id }); // A VM that was never wholly created is gone now.
    this.host.store.getVm(id);
  }

  /** What hearthd does for itself is nobody's news. */
  publish({ spec }: Pick<VmRecord, "spec">, event: ApiEvent): void {
    if (spec.hidden === undefined) this.host.bus.publish(event);
  }
}
