/**
 * Starts and ends what hearthd runs, as one list of services from the store to the API:
 *
 *  1. `start` starts them in order. If one cannot start, those before it are ended, and its error is thrown.
 *  2. `end` drains all of them at once, the last one first, each within its deadline.
 *  3. It then stops them one after the other, the last one first: none is stopped before those that rely on it.
 *  4. A service that fails to drain or to stop is logged, and the others end all the same.
 *  5. A service that does not end in time still uses those below it. So nothing below is stopped, clients are told with
 *     `abandon`, and the process has to end without another step, as by a crash.
 */
import { failAfter } from "#base/clean-up.ts";
import { within } from "#base/deadline.ts";
import { toError } from "#base/error.ts";
import type { Log } from "#base/log.ts";

export type Service = {
  readonly name: string;
  /** Resolves when requests and later services may rely on it. If it rejects, nothing of it is left running. */
  start?(): unknown;
  /**
   * Begins nothing new, aborts what is under way, and resolves when nothing is half done. `above` resolves when all
   * services that started later have drained. Idempotent.
   */
  drain?(above: Promise<void>): unknown;
  /** Releases what the service has. Nothing relies on it any more. */
  stop?(): unknown;
  /** Tells clients that the process ends before their work does. Called in place of `stop`. */
  abandon?(): unknown;
};

/** The time that one service may take to drain, and to stop. */
export type ServiceDeadlines = { readonly drainMs: number; readonly stopMs: number };

/** hearthd ends within ten seconds: all drain at the same time, and the API takes a second to stop, the others none. */
const DEADLINES: ServiceDeadlines = { drainMs: 7_500, stopMs: 1_500 };

/** The services of one hearthd. */
export class Services {
  readonly #services: readonly Service[];
  readonly #log: Log;
  /** The services that run, the last one first. */
  #running: readonly Service[] = [];

  constructor(services: readonly Service[], log: Log) {
    this.#services = services;
    this.#log = log;
  }

  /** Starts all, in order. @throws the error of a service that cannot start; those before it have ended then */
  async start(): Promise<void> {
    for (const service of this.#services) {
      try {
        await service.start?.();
      } catch (error) {
        await failAfter(error, () => this.end());
      }
      this.#running = [service, ...this.#running];
    }
  }

  /**
   * Drains and stops all that have started. It may be called again when some were late.
   * @returns whether all have ended. If not, the process has to end without another step: what is still under way must
   * meet neither a closed store nor the next hearthd.
   */
  async end({ drainMs, stopMs } = DEADLINES): Promise<boolean> {
    const late = await this.#drain(drainMs);
    if (late.length > 0) return this.#abandon(late, stopMs);
    for (const service of this.#running) {
      const isInTime = await this.#attempt(service, "stop", () => service.stop?.(), stopMs);
      if (!isInTime) return this.#abandon([service.name], stopMs);
      this.#running = this.#running.filter((other) => other !== service);
    }
    return true;
  }

  /** Returns the names of those that are late. */
  async #drain(deadlineMs: number): Promise<string[]> {
    const late: string[] = [];
    let above: Promise<void> = Promise.resolve();
    const drained: Promise<unknown>[] = [];
    for (const service of this.#running) {
      const before = above;
      const drain = this.#run(service, "drain", () => service.drain?.(before));
      above = Promise.all([before, drain]).then(() => undefined);
      drained.push(isWithin(drain, deadlineMs).then((isInTime) => isInTime || late.push(service.name)));
    }
    await Promise.all(drained);
    return late;
  }

  async #abandon(late: readonly string[], deadlineMs: number): Promise<false> {
    this.#log.event("daemon.abandoned", { late: late.join(", ") });
    for (const service of this.#running)
      await this.#attempt(service, "abandon", () => service.abandon?.(), deadlineMs);
    return false;
  }

  /** Returns true if the step ended in time, also with an error. */
  #attempt(service: Service, step: string, work: () => unknown, deadlineMs: number): Promise<boolean> {
    return isWithin(this.#run(service, step, work), deadlineMs);
  }

  /** Runs a step, and logs its failure. Never rejects. */
  async #run({ name }: Service, step: string, work: () => unknown): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#log.event("service.failed", { service: name, step, error: toError(error) });
    }
  }
}

async function isWithin(work: Promise<void>, deadlineMs: number): Promise<boolean> {
  return (
    (await within(
      work.then(() => true as const),
      deadlineMs,
    )) === true
  );
}
