/** The lock behind which a VM is recovered after a restart of hearthd, and what becomes of its VMM. */
import type { Host } from "#daemon/host.ts";
import type { RunningVms } from "#daemon/vm/running-vms.ts";
import type { VmFailure } from "#daemon/vm/vm-loop.ts";
import type { VmLoops } from "#daemon/vm/vm-loops.ts";
import { unlessAborted, within } from "#base/deadline.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";

const RECOVERY = "recovery";
/** How long a request waits for the recovery of its VM. Most take milliseconds; a stop of an hour takes its hour. */
const WAIT_MS = 30_000;

export class VmRecovery {
  readonly #host: Host;
  readonly #loops: VmLoops;
  readonly #running: RunningVms;

  constructor(host: Host, loops: VmLoops, running: RunningVms) {
    this.#host = host;
    this.#loops = loops;
    this.#running = running;
  }

  /**
   * Runs `work` behind the VM's lock. Its signal aborts when a kill or a forced removal takes over; what `work` has
   * stored of the VM counts from then on. `work` does not throw.
   */
  async lock(vm: Pick<VmRecord, "id" | "name">, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal: never } = new AbortController();
    const loop = this.#loops.of(vm.id);
    await loop.exclusive(
      RECOVERY,
      vm.name,
      async (signal) => {
        await work(signal);
        this.reload(vm);
      },
      never,
    );
  }

  /** Takes over what was stored of the VM, which may be that it is gone. */
  reload({ id }: Pick<VmRecord, "id">): void {
    const { store } = this.#host;
    const now = store.findVm(id);
    if (now === undefined) this.#loops.drop(id);
    else this.#loops.of(id).reload(now.state);
  }

  /** Follows a VMM that still runs. */
  adopt(vm: VmRecord, handle: VmHandle): void {
    this.reload(vm);
    this.#running.adopt(vm, handle);
  }

  /** The VMM is gone, and nobody saw how; with `failure`, it is not known what is left. */
  lost(vm: VmRecord, failure?: VmFailure): void {
    this.reload(vm);
    const exit = { reason: "unseen", atMs: this.#host.now() } as const;
    this.#loops.of(vm.id).send({ type: "vmm-exited", exit, failure });
  }

  /** Whether the VM is still to be recovered, so that its row may not be true. */
  isUnderWay({ id }: Pick<VmRecord, "id">): boolean {
    return this.#loops.of(id).action === RECOVERY;
  }

  /**
   * The VM as it is, once it is recovered. Where that takes long, the VM is still locked, and what is asked of it is
   * refused.
   * @throws HearthError `vm.not_found`, and the reason of `signal`
   */
  async done(nameOrId: string, signal: AbortSignal): Promise<VmRecord> {
    const vm = this.#host.store.getVm(nameOrId);
    if (!this.isUnderWay(vm)) return vm;
    const loop = this.#loops.of(vm.id);
    await unlessAborted(
      within(loop.done, WAIT_MS).then(() => undefined),
      signal,
    );
    if (this.isUnderWay(vm)) loop.assertFree(vm.name);
    return this.#host.store.getVm(nameOrId);
  }
}
