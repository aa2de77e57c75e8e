/** Suspends VMs that have been idle for their idle timeout. */
import { toHearthError } from "#base/error.ts";
import type { Host } from "#daemon/host.ts";
import type { Snapshots } from "#daemon/snapshot/snapshots.ts";
import type { Vms } from "#daemon/vm/vms.ts";
import { TICKS_PER_SECOND } from "#host/procfs.ts";
import type { VmId } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

type Seen = { readonly atMs: number; readonly cpuTicks: number; readonly quietSinceMs: number };

/** Measured: an emulated guest that waits takes 1 to 5 % of a CPU for its timers. */
const IDLE_CPU_SHARE = 0.1;
/** A clock that is merely adjusted moves by less between two checks. */
const CLOCK_SET_MS = 10_000;
/** The time between two checks of a VM: a tenth of its idle timeout, within these limits. */
const LOOK_MS = { min: 1_000, max: 30_000 };

/** Checks each VM that has an idle timeout, from `start` until `end`. */
export class IdleVms {
  readonly #host: Host;
  readonly #vms: Vms;
  readonly #snapshots: Snapshots;
  readonly #seen = new Map<VmId, Seen>();
  #timer: NodeJS.Timeout | undefined;
  readonly #ended = new AbortController();
  #clockOffsetMs: number | undefined;
  #looking: Promise<void> | undefined;

  constructor(host: Host, vms: Vms, snapshots: Snapshots) {
    this.#host = host;
    this.#vms = vms;
    this.#snapshots = snapshots;
  }

  start(): void {
    this.#timer = setInterval(() => {
      // A suspend takes longer than this interval.
      this.#looking ??= this.#look().finally(() => (this.#looking = undefined));
    }, LOOK_MS.min).unref();
  }

  /** Ends the checks. A VM that is being suspended is resumed. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    this.#ended.abort();
    await this.#looking;
  }

  async #look(): Promise<void> {
    try {
      await this.#lookAtAll();
    } catch (error) {
      // The store fails, for example. No client waits for an answer.
      this.#host.log.event("daemon.bug", { where: "a look at idle VMs", error });
    }
  }

  async #lookAtAll(): Promise<void> {
    const vms = this.#host.store.listVmsWithIdleTimeout();
    const ids = new Set(vms.map(({ id }) => id));
    for (const id of this.#seen.keys()) if (!ids.has(id)) this.#seen.delete(id);
    if (this.#clockWasSet()) this.#seen.clear();
    for (const { id } of vms) {
      // Read again: the suspend of another VM before this one takes a while.
      const vm = this.#host.store.findVm(id);
      const idleTimeoutMs = vm?.spec.idleTimeoutMs;
      if (vm === undefined) continue;
      if (idleTimeoutMs === undefined || vm.state.phase !== "running") this.#seen.delete(vm.id);
      else if (this.#isDue(vm.id, idleTimeoutMs)) await this.#lookAt(vm, idleTimeoutMs);
    }
  }

  /**
   * Tells whether the host's clock was set since the last check. Earlier observations say nothing about idle times
   * then.
   */
  #clockWasSet(): boolean {
    const offsetMs = this.#host.now() - this.#host.uptimeMs();
    const before = this.#clockOffsetMs ?? offsetMs;
    this.#clockOffsetMs = offsetMs;
    return Math.abs(offsetMs - before) > CLOCK_SET_MS;
  }

  #isDue(id: VmId, idleTimeoutMs: number): boolean {
    const everyMs = Math.min(Math.max(idleTimeoutMs / 10, LOOK_MS.min), LOOK_MS.max);
    const seen = this.#seen.get(id);
    return seen === undefined || this.#host.now() - seen.atMs >= everyMs;
  }

  async #lookAt(vm: VmRecord, idleTimeoutMs: number): Promise<void> {
    const handle = handleOf(vm.state);
    const usage = handle && this.#host.processes.usage(handle.processes[0]);
    if (usage === undefined) return;
    const { cpuTicks } = usage;
    const atMs = this.#host.now();
    const before = this.#seen.get(vm.id);
    // A VM that is checked for the first time, also after a restart of hearthd, counts as busy until now.
    const worked = before === undefined || usedMuch(before, { atMs, cpuTicks }) || (await this.#isUsed(vm));
    // Read again, because it may have been used while its agent was asked. A use in the future was noted before the
    // clock was set back.
    const { lastUsedAtMs } = this.#host.store.findVm(vm.id) ?? vm;
    const usedAtMs = lastUsedAtMs > this.#host.now() ? 0 : lastUsedAtMs;
    const quietSinceMs = worked ? atMs : Math.max(before.quietSinceMs, usedAtMs);
    this.#seen.set(vm.id, { atMs, cpuTicks, quietSinceMs });
    if (atMs - quietSinceMs < idleTimeoutMs) return;
    await this.#suspend(vm);
  }

  /** Tells whether files are being copied, or a command runs in the VM, with or without a client. */
  async #isUsed({ id }: VmRecord): Promise<boolean> {
    if (this.#vms.uses.has(id)) return true;
    const agent = this.#vms.connected(id);
    if (agent === undefined) return true; // The agent can neither be asked nor be made to freeze the guest.
    try {
      const { execs } = await agent.ask((guest, inTime) => guest.info(inTime), this.#ended.signal);
      return execs > 0;
    } catch (error) {
      this.#host.log.child({ vm: id }).event("agent.disconnected", { error });
      return true;
    }
  }

  async #suspend(vm: VmRecord): Promise<void> {
    const log = this.#host.log.child({ vm: vm.id });
    this.#seen.delete(vm.id);
    try {
      await this.#snapshots.suspend(vm.id, this.#vms.background(this.#ended.signal));
      log.event("vm.idle", {});
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      // Another action is under way; the VM is checked again later.
      const { code } = toHearthError(error);
      if (code !== "vm.busy" && code !== "vm.wrong_phase") log.event("vm.not_suspended", { error });
    }
  }
}

function usedMuch(before: Pick<Seen, "atMs" | "cpuTicks">, now: Pick<Seen, "atMs" | "cpuTicks">): boolean {
  const seconds = Math.max(now.atMs - before.atMs, 1) / 1000;
  return (now.cpuTicks - before.cpuTicks) / TICKS_PER_SECOND / seconds > IDLE_CPU_SHARE;
}
