/**
 * Makes the phase of a VM follow what its VMM reports, for pauses that no user asked for: a VM with paused vCPUs is not
 * running. A VMM that cannot continue is ended.
 */
import type { VmController } from "#daemon/vm/vm-controller.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import type { VmFailure } from "#model/decide-vm.ts";
import { PAUSE_CAUSES } from "#model/vm-state.ts";
import type { PauseCause } from "#model/vm-state.ts";

const BROKEN: VmFailure = {
  code: "vmm.failed",
  message: "The VMM cannot continue the guest: it reported an internal error.",
};

/** The part of a controller that is followed. */
type FollowedVm = Pick<VmController, "id" | "host" | "lock" | "state" | "send">;

export class StatusFollower {
  readonly #vm: FollowedVm;
  readonly #end: (failure: VmFailure) => void;
  #seen: { readonly status: VmmStatus; readonly turn: number } | undefined;

  /** @param end kills a VMM that cannot continue, and stores why */
  constructor(vm: FollowedVm, end: (failure: VmFailure) => void) {
    this.#vm = vm;
    this.#end = end;
  }

  /**
   * Takes the status in a VMM's answer to a heartbeat. It takes effect when the VMM reports it twice, and no action was
   * begun since before the first time: an answer may be older than a pause that has succeeded meanwhile.
   */
  saw(status: VmmStatus): void {
    const { lock, state } = this.#vm;
    const { turn } = lock;
    const before = this.#seen;
    this.#seen = undefined;
    const { phase } = state;
    const isExpected = phase === (status === "running" ? "running" : "paused") && status !== "broken";
    if (lock.isBusy || isExpected || (phase !== "running" && phase !== "paused")) return;
    if (before?.status !== status || before.turn !== turn) this.#seen = { status, turn };
    else this.#follow(status);
  }

  reset(): void {
    this.#seen = undefined;
  }

  #follow(status: VmmStatus): void {
    const { host, id } = this.#vm;
    const log = host.log.child({ vm: id });
    if (status === "running") return this.#vm.send({ type: "resumed" });
    if (status === "broken") {
      log.event("vm.vcpus_stopped", { reason: BROKEN.message });
      return this.#end(BROKEN);
    }
    const cause: PauseCause = status === "paused" ? "vmm" : status;
    log.event("vm.vcpus_stopped", { reason: PAUSE_CAUSES[cause] });
    this.#vm.send({ type: "paused", cause });
  }
}
