/**
 * Runs HTTP/2 on a socket that is already open, as ConnectRPC's session manager. ConnectRPC's own would open a second
 * connection when the first one breaks, which a VMM's socket never answers, and would close an idle one. This session
 * lives as long as its socket, and then has the reason of its end.
 */
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";
import type { OutgoingHttpHeaders } from "node:http2";
import type { Socket } from "node:net";
import { abortError, unreachable } from "#guest/agent-error.ts";

/** The most unacknowledged bytes of a stream: enough for 100 MB/s at a round trip of 10 ms. */
const STREAM_WINDOW_BYTES = 1024 * 1024;
const SESSION_WINDOW_BYTES = 16 * 1024 * 1024;
/** nghttp2's memory limit for a session. The default of 10 MB refuses new streams at about 1,000 execs. */
const SESSION_MEMORY_MAX_MB = 64;

/** The HTTP/2 session of one socket. It never opens another one. */
export class AgentSession {
  readonly authority = "http://agent";
  /** Resolves when the session is over: undefined after `close`, otherwise the reason. */
  readonly closed: Promise<Error | undefined>;
  readonly #session: ClientHttp2Session;
  #over = false;
  #lost: Error | undefined;
  #closing = false;

  constructor(socket: Socket) {
    const session = connect(this.authority, {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
      maxSessionMemory: SESSION_MEMORY_MAX_MB,
    });
    this.#session = session;
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(SESSION_WINDOW_BYTES);
    });
    const { promise, resolve } = Promise.withResolvers<Error | undefined>();
    this.closed = promise;
    const end = (why: Error): void => {
      if (this.#over) return;
      this.#over = true;
      if (!this.#closing) this.#lost = why;
      session.destroy();
      socket.destroy();
      resolve(this.#lost);
    };
    session.on("error", end);
    session.on("goaway", (code) => end(new Error(`The agent ended the connection (HTTP/2 code ${code}).`)));
    session.on("close", () => end(new Error("The agent's stream ended.")));
    socket.on("end", () => end(new Error("The agent's stream ended.")));
    socket.on("error", end);
    socket.on("close", () => end(new Error("The agent's stream ended.")));
  }

  /** The reason for which the session was lost; undefined while it lives, and after `close`. */
  get lost(): Error | undefined {
    return this.#lost;
  }

  request(method: string, path: string, headers: OutgoingHttpHeaders): Promise<ClientHttp2Stream> {
    if (this.#over || this.#session.closed || this.#session.destroyed) {
      return Promise.reject(unreachable(this.#lost ?? new Error("The connection was closed.")));
    }
    return Promise.resolve(this.#session.request({ ...headers, ":method": method, ":path": path }));
  }

  /** Required by ConnectRPC. There is no idle timer to reset. */
  notifyResponseByteRead(): void {}

  /** Measures one HTTP/2 ping. The agent's HTTP/2 layer answers it without an RPC. */
  async pingMs(signal: AbortSignal): Promise<number> {
    if (signal.aborted) throw abortError(signal);
    if (this.#over) throw unreachable(this.#lost);
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const onAbort = (): void => reject(abortError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    this.#session.ping((error, durationMs) => {
      if (error === null) resolve(durationMs);
      else reject(unreachable(this.#lost ?? error));
    });
    return promise.finally(() => signal.removeEventListener("abort", onAbort));
  }

  /** Closes the session and fails every running call. Idempotent. */
  close(): void {
    this.#closing = true;
    this.#session.destroy(undefined, constants.NGHTTP2_CANCEL);
  }
}
