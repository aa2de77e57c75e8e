/**
 * What hearthd holds of one VMM while it runs: the watch, the agent's connection, the clock of its lifetime.
 * It can be let go without a trace; the VMM does not notice.
 */
import { inTime } from "#base/deadline.ts";
import { toHearthError } from "#base/error.ts";
import type { Log } from "#base/log.ts";
import { TokenBucket } from "#base/token-bucket.ts";
import { AGENT_PATIENCE, agentUnreachable, isAnswering, watchGuest } from "#daemon/vm/answering-guest.ts";
import type { AgentPatience } from "#daemon/vm/answering-guest.ts";
import type { Guest, Guests } from "#daemon/host.ts";
import type { VmDriver, VmmStatus } from "#drivers/vm-driver.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

/** Between tries to reach an agent that went away; doubles up to the last. */
const RECONNECT_MS = { first: 100, last: 5_000 };
/**
 * Connections that break: after some at once, the next is made every few seconds, and the log tells of one a minute. A
 * guest that answers and hangs up again and again would take a whole CPU and the log otherwise.
 */
const BREAKS = { perS: 0.2, burst: 5 };
const TOLD_BREAKS = { perS: 1 / 60, burst: 1 };
/** setTimeout's own limit is 2^31-1 ms. */
const TIMER_MAX_MS = 2_000_000_000;

export type AttachmentEvents = {
  /** `exit` says how. */
  exited(): void;
  silent(silentMs: number): void;
  status(status: VmmStatus): void;
};

/** hearthd's hold on one VMM. The watch begins with it and ends with `detach`, or with the VMM. */
export class Attachment {
  readonly handle: VmHandle;
  /** Resolves when the VMM has ended. Never, when we let go before. */
  readonly ended: Promise<VmExit>;
  readonly #guests: Guests;
  readonly #patience: AgentPatience;
  readonly #log: Log;
  readonly #detached = new AbortController();
  readonly #breaks = new TokenBucket(BREAKS);
  readonly #toldBreaks = new TokenBucket(TOLD_BREAKS);
  /** Since the last one that the log tells of. */
  #untoldBreaks = 0;
  #exit: VmExit | undefined;
  #guest: Promise<Guest> | undefined;
  #connected: Guest | undefined;
  #timer: NodeJS.Timeout | undefined;
  #owed: ((guest: Guest, signal: AbortSignal) => Promise<void>) | undefined;

  constructor(driver: VmDriver, handle: VmHandle, guests: Guests, on: AttachmentEvents, log: Log) {
    this.handle = handle;
    this.#guests = guests;
    this.#patience = guests.patience ?? AGENT_PATIENCE;
    this.#log = log;
    const { promise, resolve } = Promise.withResolvers<VmExit>();
    this.ended = promise;
    const exited = (exit: VmExit): void => {
      this.detach();
      this.#exit = exit;
      resolve(exit);
      on.exited();
    };
    const silent = (silentMs: number): void => on.silent(silentMs);
    const status = (said: VmmStatus): void => on.status(said);
    driver.watch(handle, { exited, silent, status }, this.#detached.signal);
  }

  /** How the VMM ended, if it has and hearthd had not let go before. */
  get exit(): VmExit | undefined {
    return this.#exit;
  }

  /** Aborts when we have let go, or the VMM has ended. */
  get signal(): AbortSignal {
    return this.#detached.signal;
  }

  /** Keeps this connection, and makes a new one when it breaks. */
  keepGuest(guest: Guest): void {
    this.#connected = guest;
    this.#guest = Promise.resolve(guest);
    void this.#replaceWhenLost(guest);
  }

  /** Reaches for the agent in the background until it answers or we let go; begins after `delayMs`. */
  connectGuest(delayMs = 0): void {
    if (this.#guest !== undefined || this.#detached.signal.aborted) return;
    const guest = this.#reach(delayMs);
    this.#guest = guest;
    guest.then(
      // Another connection was asked for meanwhile, or this one was given up.
      (connected) => (this.#guest === guest ? this.keepGuest(connected) : connected.close()),
      () => {
        if (this.#guest === guest) this.#guest = undefined; // Whoever waited has got the error.
      },
    );
  }

  /**
   * Has `act` done on the next connection to the agent, before anybody else gets it, and on the one after if it fails.
   */
  owe(act: (guest: Guest, signal: AbortSignal) => Promise<void>): void {
    this.#owed = act;
  }

  /** Gives up the connection for a new one; calls on it end with an error. */
  renewGuest(): void {
    this.#connected?.close();
    this.#connected = undefined;
    this.#guest = undefined;
    this.connectGuest();
  }

  /** Closes the connection and makes no new one: the caller reaches for the agent and keeps what it gets. */
  releaseGuest(): void {
    const guest = this.#connected;
    this.#connected = undefined;
    this.#guest = undefined;
    guest?.close();
  }

  /** The connection as it is now, without waiting. */
  get connectedGuest(): Guest | undefined {
    return this.#connected;
  }

  /** @throws HearthError `agent.unreachable` when the agent does not answer in time. */
  async guest(signal: AbortSignal): Promise<Guest> {
    if (this.#connected) return this.#connected;
    this.connectGuest();
    const { connectMs } = this.#patience;
    // Listeners of our own: what AbortSignal.any leaves on a signal that lives as long as the VM adds up.
    const late = (): Error => agentUnreachable(new Error(`no answer in ${connectMs} ms`));
    const coming = this.#guest ?? new Promise<never>(() => {}); // None comes: hearthd has let it go.
    try {
      return await inTime(coming, connectMs, late, signal, this.#detached.signal);
    } catch (error) {
      throw signal.aborted && error === signal.reason ? agentUnreachable(error) : error;
    }
  }

  /**
   * A short call of hearthd's own, which has to be idempotent, and ends in time. When the agent does not answer even
   * a look at it, the connection is replaced, and the call is made once more on the new one.
   * @throws HearthError `agent.unreachable`, and what the call throws
   */
  async ask<Answer>(
    call: (guest: Guest, signal: AbortSignal) => Promise<Answer>,
    signal: AbortSignal,
    deadlineMs = this.#patience.answerMs,
  ): Promise<Answer> {
    for (let isLast = false; ; isLast = true) {
      const late = AbortSignal.timeout(deadlineMs);
      const bounded = AbortSignal.any([signal, late]);
      const guest = await this.guest(bounded);
      try {
        return await call(guest, bounded);
      } catch (error) {
        const lookMs = Math.min(deadlineMs, this.#patience.lookMs);
        if (!late.aborted || signal.aborted || (await isAnswering(guest, lookMs))) throw error;
        this.#abandon(guest, error);
        if (isLast) throw agentUnreachable(error);
      }
    }
  }

  /**
   * The connection for what takes as long as it takes: see `watchGuest`.
   * @param expected false while the VM is paused, or something else keeps the agent from answering
   * @throws HearthError `agent.unreachable` when the agent does not answer in time
   */
  async watchedGuest(expected: () => boolean, signal: AbortSignal): Promise<Guest> {
    const guest = await this.guest(signal);
    const onSilent = (): void => this.#abandon(guest, new Error("It does not answer."));
    return watchGuest({ guest, patience: this.#patience, expected, onSilent });
  }

  /** Calls `expired` at this time, unless we have let go by then. */
  expireAt(atMs: number, expired: () => void): void {
    clearTimeout(this.#timer);
    const leftMs = Math.max(0, atMs - Date.now());
    const next = leftMs > TIMER_MAX_MS ? () => this.expireAt(atMs, expired) : expired;
    this.#timer = setTimeout(next, Math.min(leftMs, TIMER_MAX_MS)).unref();
  }

  /** Lets go. Idempotent. */
  detach(): void {
    clearTimeout(this.#timer);
    this.#detached.abort(agentUnreachable(new Error("the VMM has ended, or hearthd let it go")));
    this.#connected?.close();
    this.#connected = undefined;
    this.#guest = undefined;
  }

  /** Replaces the connection, unless somebody else has. */
  #abandon(guest: Guest, error: unknown): void {
    if (this.#connected !== guest) return;
    this.#log.event("agent.disconnected", { error });
    this.renewGuest();
  }

  async #replaceWhenLost(guest: Guest): Promise<void> {
    const error = await guest.closed;
    if (this.#connected !== guest) return;
    this.#connected = undefined;
    this.#guest = undefined;
    if (this.#detached.signal.aborted) return;
    this.#tellBreak(error);
    this.connectGuest(this.#breaks.take() ? 0 : RECONNECT_MS.last);
  }

  #tellBreak(error: unknown): void {
    if (!this.#toldBreaks.take()) {
      this.#untoldBreaks += 1;
      return;
    }
    const before = this.#untoldBreaks === 0 ? {} : { before: this.#untoldBreaks };
    this.#untoldBreaks = 0;
    this.#log.event("agent.disconnected", { error, ...before });
  }

  async #payTo(guest: Guest): Promise<void> {
    const act = this.#owed;
    if (act === undefined) return;
    try {
      await act(
        guest,
        AbortSignal.any([this.#detached.signal, AbortSignal.timeout(this.#patience.answerMs)]),
      );
      if (this.#owed === act) this.#owed = undefined;
    } catch (error) {
      const { code } = toHearthError(error);
      if (code !== "agent.failed") {
        guest.close();
        throw error;
      }
      this.#log.event("agent.disconnected", { error }); // An agent that refuses is still of use for other calls.
    }
  }

  async #reach(delayMs: number): Promise<Guest> {
    if (delayMs > 0) await pause(delayMs, this.#detached.signal);
    for (let pauseMs = RECONNECT_MS.first; ; pauseMs = Math.min(pauseMs * 2, RECONNECT_MS.last)) {
      try {
        const guest = await this.#guests.waitFor(
          this.handle,
          this.#patience.connectMs,
          this.#detached.signal,
        );
        await this.#payTo(guest);
        return guest;
      } catch (error) {
        if (this.#detached.signal.aborted) throw error;
        await pause(pauseMs, this.#detached.signal);
      }
    }
  }
}

/** Ends early when `signal` aborts, and leaves no listener on it. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = (): void => resolve();
  const timer = setTimeout(end, ms);
  signal.addEventListener("abort", end, { once: true });
  return promise.finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  });
}
