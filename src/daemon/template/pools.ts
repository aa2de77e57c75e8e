/** Keeps pools of restored VMs that wait, paused; `run` takes one with the same compatibility key. */
import { failAfter } from "#base/clean-up.ts";
import { HearthError, toHearthError } from "#base/error.ts";
import type { CreateVm } from "#api/wire.ts";
import { chooseDriver } from "#daemon/spec/choose-driver.ts";
import { completeSpec } from "#daemon/spec/complete-spec.ts";
import type { PoolConfig } from "#daemon/config.ts";
import { runInGuest } from "#daemon/vm/run-in-guest.ts";
import { internalVm } from "#daemon/spec/internal-vm.ts";
import type { Host } from "#daemon/host.ts";
import { assertPause, OTHER_DRIVER } from "#daemon/spec/lacking-features.ts";
import { templateShape } from "#daemon/vm/start-source.ts";
import type { Call, Vms } from "#daemon/vm/vms.ts";
import type { Templates } from "#daemon/template/templates.ts";
import { parseVmName } from "#model/ids.ts";
import type { ImageDigest, VmId } from "#model/ids.ts";
import { vmNameFrom } from "#model/vm-names.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VmSpec } from "#model/vm-spec.ts";

type Waiting = { readonly id: VmId; readonly pool: string; readonly key: string };
type Wanted = { readonly spec: VmSpec; readonly imageDigest: ImageDigest };

/** The wait after a failure: the image may be missing, or the host full. */
const RETRY_MS = 60_000;
const REFILL_MS = 300;

/** Keeps as many VMs of each pool ready as config.toml says. */
export class Pools {
  readonly #host: Host;
  readonly #vms: Vms;
  readonly #templates: Templates;
  readonly #refillMs: number;
  readonly #ended = new AbortController();
  #waiting: Waiting[] = [];
  #filling: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param refillMs the time between the use of a pooled VM and the creation of the next */
  constructor(host: Host, vms: Vms, templates: Templates, refillMs = REFILL_MS) {
    this.#refillMs = refillMs;
    this.#host = host;
    this.#vms = vms;
    this.#templates = templates;
  }

  /** Fills the pools in the background. */
  fill(): void {
    if (this.#host.config.pools.length === 0 || this.#ended.signal.aborted) return;
    clearTimeout(this.#timer);
    this.#filling ??= this.#fillAll().finally(() => (this.#filling = undefined));
  }

  /** Returns a pooled VM like the one asked for, running under the requested name; undefined when there is none. */
  async take(request: CreateVm, ephemeral: boolean, call: Call): Promise<VmRecord | undefined> {
    if (this.#waiting.length === 0 || request.cold === true || request.snapshot !== undefined)
      return undefined;
    // The network of a VM that waits has no published ports, and is on no private network.
    if ([request.publish, request.networks].some((part) => part !== undefined && part.length > 0))
      return undefined;
    const wanted = await completeSpec(this.#host, request, call);
    const key = await this.#keyOf(wanted, call.signal).catch(() => undefined); // It has none.
    // Nothing is awaited between the choice and its removal, so that no other request gets the same VM.
    const found = this.#waiting.find((waiting) => waiting.key === key && this.#isReady(waiting));
    if (found === undefined) {
      if (!this.#waiting.every((waiting) => this.#isReady(waiting))) this.#fillSoon();
      return undefined;
    }
    this.#waiting = this.#waiting.filter((waiting) => waiting !== found);
    const name = request.name === undefined ? vmNameFrom(this.#host.random(4)) : parseVmName(request.name);
    try {
      return await this.#vms.claim(
        found.id,
        { name, labels: request.labels, spec: wanted.spec, ephemeral },
        call,
      );
    } catch (error) {
      const discard = (): Promise<void> => this.#vms.discard(found.id);
      // A taken name is the caller's error; the death of a pooled VM is not.
      if (call.signal.aborted || toHearthError(error).code === "name.taken")
        return await failAfter(error, discard);
      const { log } = this.#host;
      await failAfter(error, discard).catch((all: unknown) =>
        log.event("pool.failed", { pool: found.pool, error: all }),
      );
      return undefined;
    } finally {
      this.#fillSoon();
    }
  }

  /** Fills the pools a little later: the command that asked for a VM starts now, and needs the CPU more. */
  #fillSoon(): void {
    clearTimeout(this.#timer);
    if (this.#refillMs === 0) this.fill();
    else this.#timer = setTimeout(() => this.fill(), this.#refillMs).unref();
  }

  /** Returns the number of VMs that wait now. */
  ready(pool: string): number {
    return this.#waiting.filter((waiting) => waiting.pool === pool && this.#isReady(waiting)).length;
  }

  /** False for a VM that died while it waited. */
  #isReady({ id }: Waiting): boolean {
    return this.#host.store.findVm(id)?.state.phase === "paused";
  }

  /** Resolves when no pool is being filled. */
  async idle(): Promise<void> {
    while (this.#filling !== undefined) await this.#filling;
  }

  /** Removes all VMs that wait. */
  async end(): Promise<void> {
    this.#ended.abort();
    clearTimeout(this.#timer);
    await this.idle();
    const waiting = this.#waiting;
    this.#waiting = [];
    await this.#discardAll(waiting);
  }

  async #fillAll(): Promise<void> {
    await this.#discardDead();
    for (const pool of this.#host.config.pools) {
      try {
        while (!this.#ended.signal.aborted && this.ready(pool.name) < pool.count)
          this.#waiting.push(await this.#add(pool));
      } catch (error) {
        if (this.#ended.signal.aborted) return;
        this.#host.log.event("pool.failed", { pool: pool.name, error });
        this.#timer = setTimeout(() => this.fill(), RETRY_MS).unref();
      }
    }
  }

  async #discardDead(): Promise<void> {
    const dead = this.#waiting.filter((waiting) => !this.#isReady(waiting));
    this.#waiting = this.#waiting.filter((waiting) => !dead.includes(waiting));
    await this.#discardAll(dead);
  }

  /** Discards each, also after one that fails, which is logged. */
  async #discardAll(waiting: readonly Waiting[]): Promise<void> {
    for (const { id, pool } of waiting) {
      try {
        await this.#vms.discard(id);
      } catch (error) {
        this.#host.log.event("pool.failed", { pool, error });
      }
    }
  }

  /** Makes a pooled VM: restores it, runs a program once so that its pages are loaded, and pauses it. */
  async #add({ name: pool, count: _count, ...shape }: PoolConfig): Promise<Waiting> {
    const host = this.#host;
    const call = this.#vms.background(this.#ended.signal);
    const wanted = await completeSpec(host, shape, call);
    const driver = await chooseDriver(host, wanted.spec, call.signal);
    await assertPause(driver, `Cannot fill the pool ${pool}`, OTHER_DRIVER, call.signal);
    await this.#templates.build(wanted, call);
    const key = await this.#keyOf(wanted, call.signal);
    const { id } = await this.#vms.make(
      internalVm(host, wanted.spec, wanted.imageDigest, "foreground"),
      call,
      {
        startsNow: true,
      },
    );
    try {
      await this.#vms.start(id, call);
      const { guest } = await this.#vms.guest(id, "exec", call.signal);
      await runInGuest(guest, ["true"], call);
      await this.#vms.pause(id, call);
      return { id, pool, key };
    } catch (error) {
      return await failAfter(error, () => this.#vms.discard(id));
    }
  }

  /** Returns the key that a request and a pooled VM have to share: the compatibility key, and the isolation. */
  async #keyOf(wanted: Wanted, signal: AbortSignal): Promise<string> {
    const driver = await chooseDriver(this.#host, wanted.spec, signal);
    const found = await templateShape(this.#host, wanted, driver, signal);
    if (found === undefined || wanted.spec.volumes.length > 0)
      throw new HearthError("feature.missing", "This VM configuration cannot use templates.");
    return JSON.stringify([found.shape.key, wanted.spec.isolation]);
  }
}
