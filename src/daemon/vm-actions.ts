/** What is done to a VM once it is known to be allowed: by `Vms`, alone on its VM. */
import { errorBody, toHearthError } from "#base/error.ts";
import type { ApiEvent } from "#api/events.ts";
import { guestIdentity } from "#daemon/boot-plan.ts";
import { forgetMemory } from "#daemon/drop-snapshot.ts";
import { REMOVE_VM } from "#daemon/flows/remove-vm.ts";
import { runJournaled } from "#daemon/flows/run-journaled.ts";
import type { StopPlan } from "#daemon/flows/stop-vm.ts";
import type { Host } from "#daemon/host.ts";
import { RunningVms } from "#daemon/running-vms.ts";
import type { EndActions } from "#daemon/running-vms.ts";
import { startVm } from "#daemon/start-vm.ts";
import type { Started, StartParts } from "#daemon/start-vm.ts";
import { stopVm } from "#daemon/stop-vm.ts";
import { VmLoops } from "#daemon/vm-loops.ts";
import type { StartHow } from "#daemon/vm-origin.ts";
import type { Call } from "#daemon/vms.ts";
import type { VmId } from "#model/ids.ts";
import type { VmRecord } from "#model/vm.ts";
import { handleOf } from "#model/vm-state.ts";

/** For the guest of a VM whose lifetime is over to flush. */
export const LAST_WORDS_MS = 10_000;

/** `alone` and `act` run their work alone on the VM; all others are to be called inside of that. */
export class VmActions {
  readonly host: Host;
  readonly loops: VmLoops;
  readonly running: RunningVms;
  onBooted: (vm: VmRecord, started: Started) => void = () => {};

  constructor(host: Host, ends: EndActions) {
    this.host = host;
    this.loops = new VmLoops(host);
    this.running = new RunningVms(host, this.loops, ends);
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

  /** A guest that stood still does not know for how long. One that does not answer is told at its next start. */
  async tellTime(vm: VmRecord, signal: AbortSignal): Promise<void> {
    try {
      const identity = await guestIdentity(this.host, vm, false, signal);
      await this.running.find(vm.id)?.ask((guest, inTime) => guest.configure(identity, inTime), signal);
    } catch (error) {
      signal.throwIfAborted();
      this.host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
    }
  }

  /** What a VM that sleeps had in memory is given up. */
  async forget(vm: VmRecord): Promise<void> {
    if (vm.state.phase !== "suspended") return;
    this.loops.of(vm.id).send({ type: "forgotten", exit: { reason: "asked", atMs: this.host.now() } });
    await forgetMemory(this.host, vm.id);
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
    await runJournaled(host, REMOVE_VM, vm.id, {}, { host, id: vm.id }, call);
    this.loops.drop(vm.id);
    this.publish(vm, { type: "vm.removed", atMs: host.now(), id: vm.id, name: vm.name });
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
  ): Promise<VmRecord> {
    await this.alone(vm, action, call, work);
    return this.host.store.getVm(vm.id);
  }

  /** One action at a time; one that fails is kept with the VM and published. VS-020. */
  async alone(
    vm: VmRecord,
    action: string,
    call: Call,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const host = this.host;
    try {
      await this.loops.of(vm.id).exclusive(action, vm.name, work, call.signal);
    } catch (error) {
      const failure = toHearthError(error);
      if (failure.code !== "vm.busy" && host.store.findVm(vm.id))
        host.store.setError(vm.id, failure.code, failure);
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

  /** What hearthd does for itself is nobody's news. */
  publish({ spec }: Pick<VmRecord, "spec">, event: ApiEvent): void {
    if (spec.hidden === undefined) this.host.bus.publish(event);
  }
}
