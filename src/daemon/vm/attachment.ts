/**
 * hearthd's session with one VMM while it runs: the watch, the connection to the agent, the timer of its lifetime.
 * Closing it has no effect on the VMM.
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

/** The waits between attempts to reach an agent whose connection broke; doubled up to the last. */
const RECONNECT_MS = { first: 100, last: 5_000 };
/**
 * The rate of new connections: some at once, then one every few seconds; and of lines in the log: one a minute. Without
 * it, a guest that answers and hangs up in a loop would use a whole CPU and fill the log.
 */
const BREAKS = { perS: 0.2, burst: 5 };
const TOLD_BREAKS = { perS: 1 / 60, burst: 1 };
/** The limit of setTimeout is 2^31-1 ms. */
const TIMER_MAX_MS = 2_000_000_000;

export type AttachmentEvents = {
  /** Called when the VMM has ended; `exit` says how. */
  exited(): void;
  silent(silentMs: number): void;
  status(status: VmmStatus): void;
};

/** A session with one VMM. It watches the VMM from its construction until `detach`, or until the VMM ends. */
export class Attachment {
  readonly handle: VmHandle;
  /** Resolves when the VMM has ended; never, if the session was closed before. */
  readonly ended: Promise<VmExit>;
  readonly #guests: Guests;
  readonly #patience: AgentPatience;
  readonly #log: Log;
  readonly #detached = new AbortController();
  readonly #breaks = new TokenBucket(BREAKS);
  readonly #toldBreaks = new TokenBucket(TOLD_BREAKS);
  /** The number of breaks since the last one in the log. */
  #untoldBreaks = 0;
  #exit: VmExit | undefined;
  #guest: Promise<Guest> | undefined;
  #connected: Guest | undefined;
  #timer: NodeJS.Timeout | undefined;
  #onConnect: ((guest: Guest, signal: AbortSignal) => Promise<void>) | undefined;

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

  /** The end of the VMM, if it came before the session was closed. */
  get exit(): VmExit | undefined {
    return this.#exit;
  }

  /** Aborts when the session is closed, or the VMM has ended. */
  get signal(): AbortSignal {
    return this.#detached.signal;
  }

  /** Uses this connection, and makes a new one when it breaks. */
  keepGuest(guest: Guest): void {
    this.#connected = guest;
    this.#guest = Promise.resolve(guest);
    void this.#replaceWhenLost(guest);
  }

  /** Connects to the agent in the background, after `delayMs`, until it answers or the session is closed. */
  connectGuest(delayMs = 0): void {
    if (this.#guest !== undefined || this.#detached.signal.aborted) return;
    const guest = this.#reach(delayMs);
    this.#guest = guest;
    guest.then(
      // Otherwise another connection was asked for meanwhile, or this one was abandoned.
      (connected) => (this.#guest === guest ? this.keepGuest(connected) : connected.close()),
      () => {
        if (this.#guest === guest) this.#guest = undefined; // The callers that waited have got the error.
      },
    );
  }

  /** Runs `act` on the next connection to the agent before any other call, and on the one after that if it fails. */
  runOnConnect(act: (guest: Guest, signal: AbortSignal) => Promise<void>): void {
    this.#onConnect = act;
  }

  /** Replaces the connection; calls on the old one end with an error. */
  renewGuest(): void {
    this.#connected?.close();
    this.#connected = undefined;
    this.#guest = undefined;
    this.connectGuest();
  }

  /** Closes the connection and makes no new one: the caller connects, and passes the connection to `keepGuest`. */
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

  /**
   * Returns the connection, and waits for one if there is none. @throws HearthError `agent.unreachable` after
   * `connectMs`
   */
  async guest(signal: AbortSignal): Promise<Guest> {
    if (this.#connected) return this.#connected;
    this.connectGuest();
    const { connectMs } = this.#patience;
    // No AbortSignal.any: what it leaves on a signal that lives as long as the VM adds up.
    const late = (): Error => agentUnreachable(new Error(`no answer within ${connectMs} ms`));
    const coming = this.#guest ?? new Promise<never>(() => {}); // No connection will come: the session is closed.
    try {
      return await inTime(coming, connectMs, late, signal, this.#detached.signal);
    } catch (error) {
      throw signal.aborted && error === signal.reason ? agentUnreachable(error) : error;
    }
  }

  /**
   * Makes a short, idempotent call of hearthd's, with a deadline. If the agent does not answer a probe either, the
   * connection is replaced, and the call is made once more on the new one.
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
        const probeMs = Math.min(deadlineMs, this.#patience.probeMs);
        if (!late.aborted || signal.aborted || (await isAnswering(guest, probeMs))) throw error;
        this.#abandon(guest, error);
        if (isLast) throw agentUnreachable(error);
      }
    }
  }

  /**
   * Returns the connection for calls without a deadline, watched as `watchGuest` says.
   * @param expected false while the VM is paused, or something else keeps the agent from answering
   * @throws HearthError `agent.unreachable` when the agent does not answer in time
   */
  async watchedGuest(expected: () => boolean, signal: AbortSignal): Promise<Guest> {
    const guest = await this.guest(signal);
    const onSilent = (): void => this.#abandon(guest, new Error("It does not answer."));
    return watchGuest({ guest, patience: this.#patience, expected, onSilent });
  }

  /** Calls `expired` at this time, unless the session is closed by then. */
  expireAt(atMs: number, expired: () => void): void {
    clearTimeout(this.#timer);
    const leftMs = Math.max(0, atMs - Date.now());
    const next = leftMs > TIMER_MAX_MS ? () => this.expireAt(atMs, expired) : expired;
    this.#timer = setTimeout(next, Math.min(leftMs, TIMER_MAX_MS)).unref();
  }

  /** Closes the session. Idempotent. */
  detach(): void {
    clearTimeout(this.#timer);
    this.#detached.abort(agentUnreachable(new Error("the VMM has ended, or hearthd has detached from it")));
    this.#connected?.close();
    this.#connected = undefined;
    this.#guest = undefined;
  }

  /** Replaces the connection, unless that was done already. */
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

  async #callOnConnect(guest: Guest): Promise<void> {
    const act = this.#onConnect;
    if (act === undefined) return;
    try {
      await act(
        guest,
        AbortSignal.any([this.#detached.signal, AbortSignal.timeout(this.#patience.answerMs)]),
      );
      if (this.#onConnect === act) this.#onConnect = undefined;
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
        await this.#callOnConnect(guest);
        return guest;
      } catch (error) {
        if (this.#detached.signal.aborted) throw error;
        await pause(pauseMs, this.#detached.signal);
      }
    }
  }
}

/** Resolves after `ms`, or when `signal` aborts. Leaves no listener on the signal. */
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
