/**
 * The host's end of the agent channel: one connection to the agent of a guest, with any number of concurrent calls.
 *
 * 1. `agent-stream.ts` dials the VMM's socket and sends hello lines until the agent answers this connection's nonce.
 * 2. `agent-session.ts` speaks HTTP/2 on that socket, and ends every call when the socket ends.
 * 3. ConnectRPC makes the calls of proto/ on that session.
 * 4. `guest-call.ts` bounds the chunks of streaming calls, and cancels them in both directions.
 * 5. The guest is not trusted: answers are bounded in size, text is made safe to print, and the agent can name only the
 *    errors of a guest (`agent-error.ts`).
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
import { readGuestPorts, type GuestPorts } from "#guest/guest-ports.ts";
import { guestText } from "#guest/guest-text.ts";
import { readTar, writeTar, type TarTarget, type TarWritten } from "#guest/guest-tar.ts";
import type { AgentAddress } from "#model/vm-handle.ts";
import type { ExecSpec, TtySize } from "#model/exec-spec.ts";

export type { DialTarget, ExecEvent, ExecIo, GuestIdentity, GuestPorts, GuestReport, TarTarget, TarWritten };

/** The calls to an agent. All throw HearthError; `agent.unreachable` once the connection is lost. */
export interface AgentClient {
  /** Returns the agent's version and the state of its guest. Used as the health check. */
  info(signal: AbortSignal): Promise<GuestReport>;
  /**
   * Gives the guest its identity, mounts its volumes, and thaws what `freeze` froze. Idempotent.
   * @throws HearthError `vm.identity_failed` if a restored guest could not renew what no two guests may share. Its
   * processes stay frozen, and the caller must end its VMM.
   */
  configure(identity: GuestIdentity, signal: AbortSignal): Promise<Configured>;
  /**
   * Runs a command. Yields `started`, the output in order per stream, and `exited` last. The command starts at the
   * first `next()`, and its output waits in the guest between calls of `next()`. Aborting `signal`, or leaving the loop
   * early, kills the command's process group unless it is detached.
   * @throws HearthError `exec.not_found`, `exec.not_executable`, `exec.bad_user`
   */
  exec(spec: ExecSpec, io: ExecIo, signal: AbortSignal): AsyncGenerator<ExecEvent, void, undefined>;
  /** Sends a Linux signal, 1 to 64, to a command. Resolves if the command has ended meanwhile. */
  signalExec(id: string, signalNumber: number, signal: AbortSignal): Promise<void>;
  /** Sets the terminal size of a command. Resolves if the command has ended meanwhile. */
  resizeExec(id: string, size: TtySize, signal: AbortSignal): Promise<void>;
  /**
   * Reads a file or directory as a tar stream. Leaving the loop early ends the stream.
   * @throws HearthError `file.not_found`.
   */
  readTar(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined>;
  /** Unpacks a tar stream into a directory. @throws HearthError `file.refused`, `file.not_found`. */
  writeTar(target: TarTarget, source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<TarWritten>;
  /** Opens a connection inside the guest; the first chunk is empty. The end of `source` ends this side only. */
  dial(
    target: DialTarget,
    source: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, undefined>;
  /** Lists the ports of the guest that wait for peers. @throws HearthError `feature.missing` for an older agent */
  listPorts(signal: AbortSignal): Promise<GuestPorts>;
  /**
   * Freezes every process of the guest except the agent and PID 1; on failure, none. Idempotent. Without `untilThaw`
   * the guest thaws by itself 30 s after the last `freeze`. Resolves with warnings, as sentences.
   */
  freeze(options: FreezeOptions, signal: AbortSignal): Promise<readonly string[]>;
  /**
   * Sets the wall clock, which stopped with the guest, and thaws the processes. Idempotent. Resolves with warnings, as
   * sentences.
   */
  thaw(unixTimeMs: number, signal: AbortSignal): Promise<readonly string[]>;
  /** Asks the guest to flush and power off. The end of the VMM proves that it did, not this answer. */
  shutdown(options: ShutdownOptions, signal: AbortSignal): Promise<void>;
  /** Measures one HTTP/2 round trip, in milliseconds. */
  pingMs(signal: AbortSignal): Promise<number>;
  /** Closes the connection and fails every call on it. Idempotent. */
  close(): void;
  /** Resolves when the connection is over: undefined after `close`, otherwise the reason. */
  readonly closed: Promise<Error | undefined>;
}

export type Configured = {
  /** The steps that failed, as sentences. The guest runs all the same. */
  readonly warnings: readonly string[];
  /**
   * True if the guest's own init starts when this connection is closed. The agent then runs as a service of that init,
   * and must be configured again.
   */
  readonly initFollows: boolean;
};

export type FreezeOptions = {
  /** Writes the guest's dirty pages to its disks before the freeze. Has no time limit. */
  readonly flush: boolean;
  /** The time for the processes to freeze. */
  readonly timeoutMs: number;
  /**
   * Keeps the guest frozen until `thaw`. Set while memory is saved, because a restored copy must not run before it has
   * its own identity.
   */
  readonly untilThaw: boolean;
};

export type ShutdownOptions = {
  /** The time for services and processes to end before they are killed. */
  readonly timeoutMs: number;
  readonly reboot?: boolean | undefined;
};

/** The limit for one message of a guest. Its chunks are a quarter of this. */
const MESSAGE_MAX_BYTES = 1024 * 1024;
const WARNINGS_MAX = 50;
const WARNING_MAX_CHARS = 300;

/**
 * Connects and performs the handshake. The VMM's socket serves one client at a time and lets others wait, so `signal`
 * should have a deadline.
 * @throws HearthError `agent.unreachable`, `operation.timed_out`
 */
export async function connectAgent(address: AgentAddress, signal: AbortSignal): Promise<AgentClient> {
  return clientOf(new AgentSession(await openAgentStream(address, signal)));
}

/** The state that the calls of one client share. */
export type AgentCalls = {
  readonly rpc: Client<typeof AgentService>;
  /** The reason for which the connection was lost; undefined while it lives. */
  readonly lost: () => Error | undefined;
};

function clientOf(session: AgentSession): AgentClient {
  const transport = createConnectTransport({
    httpVersion: "2",
    baseUrl: session.authority,
    sessionManager: session,
    readMaxBytes: MESSAGE_MAX_BYTES,
    // Both ends are on one machine, where compression costs more than it saves.
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
    listPorts: (signal) => ask(signal, async () => readGuestPorts(await rpc.listPorts({}, { signal }))),
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

/** Ignores the failure of a call to a command that has ended meanwhile. The agent names no code then. */
async function unlessEnded(call: Promise<unknown>): Promise<void> {
  try {
    await call;
  } catch (error) {
    const ended = error instanceof ConnectError && error.code === Code.NotFound;
    if (!ended || error.metadata.has("hearth-code")) throw error;
  }
}
