/**
 * hearthd's side of the agent in one guest: one connection, any number of calls at once. The guest is not
 * trusted: what it answers is bounded in size, and its text is made safe before anybody sees it.
 */
import { Code, ConnectError, createClient, type Client } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { agentError } from "#guest/agent-error.ts";
import { AgentSession } from "#guest/agent-session.ts";
import { openAgentStream } from "#guest/agent-stream.ts";
import { dialInGuest, type DialTarget } from "#guest/dial-in-guest.ts";
import { execInGuest, type ExecEvent, type ExecIo } from "#guest/exec-in-guest.ts";
import { AgentService } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { configureRequest, nanoseconds, type GuestIdentity } from "#guest/guest-identity.ts";
import { identityFailureIn } from "#guest/identity-failure.ts";
import { readGuestReport, type GuestReport } from "#guest/guest-report.ts";
import { guestText } from "#guest/guest-text.ts";
import { readTar, writeTar, type TarTarget, type TarWritten } from "#guest/guest-tar.ts";
import type { AgentAddress } from "#model/vm-handle.ts";
import type { ExecSpec, TtySize } from "#model/exec-spec.ts";

export type { DialTarget, ExecEvent, ExecIo, GuestIdentity, GuestReport, TarTarget, TarWritten };

/** All throw HearthError; `agent.unreachable` once the connection is gone. */
export interface AgentClient {
  /** Who answers, and how the guest is. Also the health check. */
  info(signal: AbortSignal): Promise<GuestReport>;
  /**
   * Gives the guest its identity, mounts its volumes, and thaws what `freeze` froze. Idempotent.
   * @throws HearthError `vm.identity_failed` when a restored guest could not renew what no two guests may share: its
   * processes stay frozen, and the caller ends its VMM
   */
  configure(identity: GuestIdentity, signal: AbortSignal): Promise<Configured>;
  /**
   * Runs a command: `started`, output in order per stream, `exited` as the last. Nothing starts before the
   * first `next()`. Output waits in the guest while nobody asks for the next event. `signal`, and a reader
   * that leaves the loop early, kill the command's process group unless it is detached.
   * @throws HearthError `exec.not_found`, `exec.not_executable`, `exec.bad_user`
   */
  exec(spec: ExecSpec, io: ExecIo, signal: AbortSignal): AsyncGenerator<ExecEvent, void, undefined>;
  /** `signalNumber` is Linux' own, 1 to 64. A command that has ended meanwhile needs none: that resolves. */
  signalExec(id: string, signalNumber: number, signal: AbortSignal): Promise<void>;
  /** Resolves, too, for a command that has ended. */
  resizeExec(id: string, size: TtySize, signal: AbortSignal): Promise<void>;
  /** A file or directory as a tar stream. Leaving the loop early ends it. @throws HearthError `file.not_found` */
  readTar(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined>;
  /** Unpacks a tar stream into a directory. @throws HearthError `file.refused`, `file.not_found` */
  writeTar(target: TarTarget, source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<TarWritten>;
  /** A connection inside the guest; the end of `source` ends our side of it alone. */
  dial(
    target: DialTarget,
    source: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, undefined>;
  /**
   * Freezes every process of the guest but the agent and PID 1; when it fails, none. Idempotent. Without `untilThaw`
   * the guest thaws by itself 30 s after the last `freeze`. Resolves with what could not be done beside that, as
   * sentences.
   */
  freeze(options: FreezeOptions, signal: AbortSignal): Promise<readonly string[]>;
  /**
   * Lets them go on, with a wall clock that is right again: it stood still with the guest. Idempotent. Resolves with
   * what could not be done, as sentences.
   */
  thaw(unixTimeMs: number, signal: AbortSignal): Promise<readonly string[]>;
  /** Asks the guest to flush and power off. That the VMM ends is the proof, not this answer. */
  shutdown(options: ShutdownOptions, signal: AbortSignal): Promise<void>;
  /** One HTTP/2 round trip. */
  pingMs(signal: AbortSignal): Promise<number>;
  /** Ends the connection and every call on it. Idempotent. */
  close(): void;
  /** Resolves when the connection is over: undefined after `close`, otherwise why it was lost. */
  readonly closed: Promise<Error | undefined>;
}

export type Configured = {
  /** What could not be done, as sentences; the guest runs all the same. */
  readonly warnings: readonly string[];
  /**
   * The guest's own init starts when this connection is closed. Whoever answers the next one is a service of that init
   * and is to be configured again.
   */
  readonly initFollows: boolean;
};

export type FreezeOptions = {
  /** Write to the disks what programs have written, before they are held. Takes as long as it takes. */
  readonly flush: boolean;
  /** For the processes to stand still. */
  readonly timeoutMs: number;
  /** Memory is saved meanwhile: the guest does not thaw by itself, because what wakes up may be a copy. */
  readonly untilThaw: boolean;
};

export type ShutdownOptions = {
  /** For services and processes to end before they are killed. */
  readonly timeoutMs: number;
  readonly reboot?: boolean | undefined;
};

/** What a guest may send as one message; its own chunks are a quarter of this. */
const MESSAGE_MAX_BYTES = 1024 * 1024;
const WARNINGS_MAX = 50;
const WARNING_MAX_CHARS = 300;

/**
 * Connects and shakes hands. The VMM's socket takes one client at a time and lets others wait, so `signal`
 * should carry a deadline.
 * @throws HearthError `agent.unreachable`, `operation.timed_out`
 */
export async function connectAgent(address: AgentAddress, signal: AbortSignal): Promise<AgentClient> {
  return clientOf(new AgentSession(await openAgentStream(address, signal)));
}

/** What the parts of the client share. */
export type AgentCalls = {
  readonly rpc: Client<typeof AgentService>;
  /** Why the connection was lost, once it is. */
  readonly lost: () => Error | undefined;
};

function clientOf(session: AgentSession): AgentClient {
  const transport = createConnectTransport({
    httpVersion: "2",
    baseUrl: session.authority,
    sessionManager: session,
    readMaxBytes: MESSAGE_MAX_BYTES,
    // Both ends are on one machine: compressing costs more than it saves.
    acceptCompression: [],
  });
  const calls: AgentCalls = { rpc: createClient(AgentService, transport), lost: () => session.lost };
  const ask = async <T>(signal: AbortSignal, call: () => Promise<T>): Promise<T> => {
    try {
      return await call();
    } catch (error) {
      throw agentError(error, session.lost, signal);
    }
  };
  const { rpc } = calls;
  return {
    info: (signal) => ask(signal, async () => readGuestReport(await rpc.info({}, { signal }))),
    configure: (identity, signal) =>
      ask(signal, async () => {
        const answer = await rpc.configure(configureRequest(identity), { signal });
        const warnings = safeWarnings(answer.warnings);
        const failure = identity.restored === true ? identityFailureIn(warnings) : undefined;
        if (failure !== undefined) throw failure;
        return { warnings, initFollows: answer.initFollows };
      }),
    exec: (spec, io, signal) => execInGuest(calls, spec, io, signal),
    signalExec: (id, signalNumber, signal) =>
      ask(signal, () => unlessEnded(rpc.signalExec({ id, signal: signalNumber }, { signal }))),
    resizeExec: (id, size, signal) =>
      ask(signal, () => unlessEnded(rpc.resizeExec({ id, rows: size.rows, cols: size.cols }, { signal }))),
    readTar: (path, signal) => readTar(calls, path, signal),
    writeTar: (target, source, signal) => writeTar(calls, target, source, signal),
    dial: (target, source, signal) => dialInGuest(calls, target, source, signal),
    freeze: ({ flush, timeoutMs, untilThaw }, signal) =>
      ask(signal, async () => {
        const { warnings } = await rpc.freeze(
          { flush, timeoutMs: BigInt(Math.round(timeoutMs)), untilThaw },
          { signal },
        );
        return safeWarnings(warnings);
      }),
    thaw: (unixTimeMs, signal) =>
      ask(signal, async () => {
        const { warnings } = await rpc.thaw({ unixTimeNs: nanoseconds(unixTimeMs) }, { signal });
        return safeWarnings(warnings);
      }),
    shutdown: ({ timeoutMs, reboot }, signal) =>
      ask(signal, async () => {
        await rpc.shutdown({ timeoutMs: BigInt(Math.round(timeoutMs)), reboot: reboot ?? false }, { signal });
      }),
    pingMs: (signal) => session.pingMs(signal),
    close: () => session.close(),
    closed: session.closed,
  };
}

function safeWarnings(warnings: readonly string[]): readonly string[] {
  return warnings.slice(0, WARNINGS_MAX).map((warning) => guestText(warning, WARNING_MAX_CHARS));
}

/** A command may end while something is said to it; that is nobody's fault. The agent names no code then. */
async function unlessEnded(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    const ended = error instanceof ConnectError && error.code === Code.NotFound;
    if (!ended || error.metadata.has("hearth-code")) throw error;
  }
}
