import type { Host } from "#daemon/host.ts";
import { VmLoop } from "#daemon/vm/vm-loop.ts";
import type { VmId } from "#model/ids.ts";
import type { VmState } from "#model/vm-state.ts";

/** The loop of each VM, made when it is first needed. A new state is stored, logged and published. */
export class VmLoops {
  readonly #host: Host;
  readonly #loops = new Map<VmId, VmLoop>();
  #lastBusyAt = performance.now();

  constructor(host: Host) {
    this.#host = host;
  }

  /** The loop of a VM in the store. @throws HearthError `vm.not_found` */
  of(id: VmId): VmLoop {
    return this.#loops.get(id) ?? this.make(id, this.#host.store.getVm(id).state);
  }

  /** For a VM whose row is yet to come. */
  make(id: VmId, state: VmState): VmLoop {
    const host = this.#host;
    const loop = new VmLoop(state, (next, before, alongside) => {
      const { name, spec } = host.store.getVm(id);
      host.store.transaction(
        () => {
          alongside();
          host.store.setState(id, next);
        },
        { reserve: true },
      );
      this.#lastBusyAt = performance.now();
      host.log.child({ vm: id }).event("vm.phase", { from: before.phase, to: next.phase });
      // What hearthd does for itself is nobody's news.
      const cause = next.phase === "paused" ? next.cause : undefined;
      if (spec.hidden === undefined)
        host.bus.publish({ type: "vm.phase", atMs: host.now(), id, name, phase: next.phase, cause });
    });
    this.#loops.set(id, loop);
    return loop;
  }

  /** How long nothing has been done to any VM. */
  quietMs(): number {
    const now = performance.now();
    if ([...this.#loops.values()].some((loop) => loop.busy)) this.#lastBusyAt = now;
    return now - this.#lastBusyAt;
  }

  /** Resolves when nothing is being done to any VM. */
  async idle(): Promise<void> {
    const isBusy = (): boolean => [...this.#loops.values()].some((loop) => loop.busy);
    while (isBusy()) await Promise.all([...this.#loops.values()].map((loop) => loop.idle()));
  }

  /** The VM is gone, or was never made. */
  drop(id: VmId): void {
    this.#loops.get(id)?.remove();
    this.#loops.delete(id);
  }
}
