/**
 * Finds out whether an agent still answers. A guest can stop answering while the connection to it stays open: its
 * kernel hangs, or its VMM has lost the channel. A call on such a connection would wait without end. So:
 *
 * 1. A call that has not begun to answer is watched: every few seconds the agent is asked for `info`, which it
 *    answers at once whatever else it does.
 * 2. A guest that is paused, saved or frozen is not expected to answer, and is waited for.
 * 3. After two silences in a row the call ends with `agent.unreachable`, and the connection is replaced.
 *
 * A command that has started is not watched: it may take, and be silent for, any time.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { within } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";

/** The time limits for agents. */
export type AgentPatience = {
  /** The limit for an agent that is not connected, and for each attempt to connect. */
  readonly connectMs: number;
  /** The limit for the answer to a short call of hearthd's. */
  readonly answerMs: number;
  /** The pause between two probes of an agent that has not begun to answer a call. */
  readonly probeEveryMs: number;
  /** The limit for the answer to a probe. */
  readonly probeMs: number;
  /** The limit for a command to start in a guest that answers probes: one that is busy, or frozen, starts it later. */
  readonly startMs: number;
};

export const AGENT_PATIENCE: AgentPatience = {
  connectMs: 10_000,
  answerMs: 10_000,
  probeEveryMs: 5_000,
  // Measured: 6 to 9 ms in an emulated guest. The rest is for a busy host.
  probeMs: 10_000,
  startMs: 300_000,
};

const SILENCES = 2;

/** The last probe of each guest: many commands may wait for one guest, which has enough to do. */
const probes = new WeakMap<Guest, { readonly atMs: number; readonly answers: Promise<boolean> }>();

/** A guest to watch, and what to do when it is silent. */
export type GuestWatch = {
  readonly guest: Guest;
  readonly patience: AgentPatience;
  /** False while no answer can be expected, such as while the VM is paused. */
  readonly expected: () => boolean;
  /** Called when the agent does not answer on this connection. */
  readonly onSilent: () => void;
};

/** Wraps a guest, so that its commands, copies and lists end with `agent.unreachable` when the agent does not answer. */
export function watchGuest(watch: GuestWatch): Guest {
  const { guest } = watch;
  return {
    ...guest,
    exec: (spec, io, signal) => startInTime(watch, (inTime) => guest.exec(spec, io, inTime), signal),
    readTar: (path, signal) => startInTime(watch, (inTime) => guest.readTar(path, inTime), signal),
    writeTar: (target, source, signal) => {
      const left = new AbortController();
      const written = guest.writeTar(target, source, AbortSignal.any([signal, left.signal]));
      // The answer comes when all is written, so only silence ends it.
      return whileAnswering(watch, written, Number.POSITIVE_INFINITY, left);
    },
    listPorts: (signal) => {
      const left = new AbortController();
      const listed = guest.listPorts(AbortSignal.any([signal, left.signal]));
      return whileAnswering(watch, listed, watch.patience.startMs, left);
    },
  };
}

/** Tells whether the agent answers `info` within `probeMs`. */
export async function isAnswering(guest: Guest, probeMs: number): Promise<boolean> {
  const over = new AbortController();
  const answer = guest.info(over.signal).then(
    () => true,
    () => false, // The connection reports why it does not answer.
  );
  const answers = await within(answer, probeMs);
  over.abort();
  return answers ?? false;
}

export function agentUnreachable(cause: unknown): HearthError {
  return new HearthError("agent.unreachable", "The guest agent does not answer.", {
    hint: "See `hearth logs NAME`; `hearth restart NAME` boots the VM again.",
    cause,
  });
}

/** Watches until the first event. There is no limit for later ones. */
async function* startInTime<Event>(
  watch: GuestWatch,
  start: (signal: AbortSignal) => AsyncGenerator<Event, void, undefined>,
  signal: AbortSignal,
): AsyncGenerator<Event, void, undefined> {
  const left = new AbortController();
  const events = start(AbortSignal.any([signal, left.signal]));
  const first = await whileAnswering(watch, events.next(), watch.patience.startMs, left);
  if (first.done === true) return;
  try {
    yield first.value;
    yield* events;
  } finally {
    await events.return();
  }
}

/** Resolves as `work` does. Aborts `left` when the agent is not waited for any more. */
async function whileAnswering<Result>(
  watch: GuestWatch,
  work: Promise<Result>,
  limitMs: number,
  left: AbortController,
): Promise<Result> {
  const over = new AbortController();
  const silence = untilSilent(watch, limitMs, over.signal);
  try {
    return await Promise.race([work, silence]);
  } catch (error) {
    left.abort(error);
    throw error;
  } finally {
    over.abort();
    silence.catch(() => {}); // It was aborted just now.
    work.catch(() => {}); // It was abandoned, or its error was thrown already.
  }
}

/** Probes the agent. Callers at about the same time share one probe; none gets the same result twice. */
function probe(guest: Guest, { probeMs, probeEveryMs }: AgentPatience): Promise<boolean> {
  const known = probes.get(guest);
  const atMs = performance.now();
  if (known !== undefined && atMs - known.atMs < probeEveryMs / 2) return known.answers;
  const answers = isAnswering(guest, probeMs);
  probes.set(guest, { atMs, answers });
  return answers;
}

async function untilSilent(watch: GuestWatch, limitMs: number, signal: AbortSignal): Promise<never> {
  const { guest, patience, expected, onSilent } = watch;
  let waitedMs = 0;
  let silences = 0;
  for (;;) {
    await sleep(patience.probeEveryMs, undefined, { signal, ref: false });
    const answers = expected() && (await probe(guest, patience));
    signal.throwIfAborted();
    if (!expected()) {
      waitedMs = 0;
      silences = 0;
      continue;
    }
    waitedMs += patience.probeEveryMs;
    silences = answers ? 0 : silences + 1;
    if (silences >= SILENCES) {
      onSilent();
      throw agentUnreachable(new Error("It did not answer two health checks."));
    }
    if (waitedMs >= limitMs)
      throw agentUnreachable(new Error(`It did not begin the request within ${limitMs} ms.`));
  }
}
