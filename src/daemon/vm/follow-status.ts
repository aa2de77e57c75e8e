/**
 * Makes the phase of a VM follow what its VMM says of the vCPUs, where nobody has asked for it: a VM that stands still is
 * not running. A VMM that cannot go on is ended.
 */
import type { Host } from "#daemon/host.ts";
import type { VmFailure } from "#daemon/vm/vm-loop.ts";
import type { VmLoops } from "#daemon/vm/vm-loops.ts";
import type { VmmStatus } from "#drivers/vm-driver.ts";
import type { VmId } from "#model/ids.ts";
import { PAUSE_CAUSES } from "#model/vm-state.ts";
import type { PauseCause } from "#model/vm-state.ts";

const BROKEN: VmFailure = {
  code: "vmm.failed",
  message: "The VMM cannot run the guest any further: it reported an internal error.",
};

export class StatusFollower {
  readonly #host: Host;
  readonly #loops: VmLoops;
  readonly #end: (id: VmId, failure: VmFailure) => void;
  readonly #seen = new Map<VmId, { readonly status: VmmStatus; readonly turn: number }>();

  /** `end` kills a VMM that cannot go on, and stores why. */
  constructor(host: Host, loops: VmLoops, end: (id: VmId, failure: VmFailure) => void) {
    this.#host = host;
    this.#loops = loops;
    this.#end = end;
  }

  /**
   * Takes what the VMM has answered to one heartbeat. It counts when the VMM says it twice and nothing was done to the
   * VM from before the first time on: an answer may be older than a pause that has succeeded meanwhile.
   */
  saw(id: VmId, status: VmmStatus): void {
    const loop = this.#loops.of(id);
    const { turn } = loop;
    const before = this.#seen.get(id);
    this.#seen.delete(id);
    const { phase } = loop.state;
    const isExpected = phase === (status === "running" ? "running" : "paused") && status !== "broken";
    if (loop.busy || isExpected || (phase !== "running" && phase !== "paused")) return;
    if (before?.status !== status || before.turn !== turn) return void this.#seen.set(id, { status, turn });
    this.#follow(id, status);
  }

  forget(id: VmId): void {
    this.#seen.delete(id);
  }

  #follow(id: VmId, status: VmmStatus): void {
    const log = this.#host.log.child({ vm: id });
    if (status === "running") return this.#loops.of(id).send({ type: "resumed" });
    if (status === "broken") {
      log.event("vm.stands_still", { reason: BROKEN.message });
      return this.#end(id, BROKEN);
    }
    const cause: PauseCause = status === "paused" ? "vmm" : status;
    log.event("vm.stands_still", { reason: PAUSE_CAUSES[cause] });
    this.#loops.of(id).send({ type: "paused", cause });
  }
}
