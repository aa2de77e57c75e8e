import { STATUS_CODES } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import type { ErrorBody } from "#base/error.ts";
import { HearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import type { Api, ApiBindings } from "#daemon/http/api.ts";
import { sendMessage } from "#daemon/http/exec-relay.ts";
import type { Principal } from "#model/principal.ts";

/** The method under which the router knows WebSockets; no HTTP request can have it. */
export const WEBSOCKET = "WEBSOCKET";

/** The first message contains the argv; the others at most one chunk of stdin. */
const MESSAGE_MAX_BYTES = 4 * 1024 * 1024;
const CLOSE = { done: 1000, stopping: 1001 };
/** The time for a client to answer the close. */
const CLOSE_MS = 1_000;

/** A connection that wants to become a WebSocket. */
export class Upgrade {
  readonly request: IncomingMessage;
  readonly #sockets: WebSocketServer;
  readonly #stream: Duplex;
  readonly #head: Buffer;
  readonly #gone = new AbortController();
  /** The reason for which the library refused the handshake. */
  refusal: Error | undefined;
  /** Headers of the answer to the handshake. */
  headers: readonly string[] = [];
  socket: WebSocket | undefined;

  constructor(sockets: WebSocketServer, request: IncomingMessage, stream: Duplex, head: Buffer) {
    this.#sockets = sockets;
    this.request = request;
    this.#stream = stream;
    this.#head = head;
    stream.once("close", () => this.#leave());
  }

  /** Aborts when the client has gone. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** Accepts the upgrade. The caller listens to the socket in the same tick. @throws HearthError */
  accept(headers: Readonly<Record<string, string>>): WebSocket {
    this.headers = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
    this.#sockets.handleUpgrade(this.request, this.#stream, this.#head, (socket) => (this.socket = socket));
    if (this.socket === undefined) throw this.#handshakeError();
    this.socket.on("close", () => this.#leave());
    this.socket.on("error", () => this.socket?.terminate());
    return this.socket;
  }

  /** Ends the connection with the API's answer: as HTTP, or as the last message of the WebSocket. */
  async end(answer: Response, isStopping: boolean): Promise<void> {
    const { socket } = this;
    const text = await answer.text();
    if (socket === undefined)
      return void this.#stream.end(httpText(answer, text), () => this.#stream.destroy());
    if (!answer.ok) {
      const { error } = JSON.parse(text) as { error: ErrorBody };
      sendMessage(socket, { type: "error", error });
    }
    socket.close(isStopping ? CLOSE.stopping : CLOSE.done);
    const timer = setTimeout(() => socket.terminate(), CLOSE_MS);
    socket.once("close", () => clearTimeout(timer));
  }

  destroy(): void {
    this.#stream.destroy();
  }

  #leave(): void {
    this.#gone.abort(new HearthError("operation.cancelled", "The client has disconnected."));
  }

  #handshakeError(): HearthError {
    if (this.refusal === undefined)
      return new HearthError("operation.cancelled", "The client has disconnected.");
    const hint = "GET /openapi.json describes every request.";
    return new HearthError("input.invalid", "The WebSocket handshake is invalid.", {
      hint,
      cause: this.refusal,
    });
  }
}

/**
 * Serves the upgrades of `server` through the router of the API: each is a request with the method `WEBSOCKET`, whose
 * handler accepts it and works until the command has ended. Its answer is an error, or the end.
 *
 * Node removes its own error handlers from a socket that is upgraded, so each gets one before anything else is done to
 * it.
 */
export function serveUpgrades(
  server: Server,
  api: Api,
  daemon: Daemon,
  principalOf: (request: IncomingMessage) => Principal,
): void {
  const underWay = new WeakMap<IncomingMessage, Upgrade>();
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_MAX_BYTES,
    perMessageDeflate: false,
    skipUTF8Validation: true,
  });
  sockets.on("headers", (headers, request) => headers.push(...(underWay.get(request)?.headers ?? [])));
  sockets.on("wsClientError", (error, _stream, request) => {
    const upgrade = underWay.get(request);
    if (upgrade !== undefined) upgrade.refusal = error;
  });
  const serve = async (upgrade: Upgrade): Promise<void> => {
    try {
      const bindings: ApiBindings = { principal: principalOf(upgrade.request), upgrade };
      const answer = await api.fetch(asRequest(upgrade), bindings);
      await upgrade.end(answer, daemon.ending.error !== undefined);
    } catch (error) {
      daemon.host.log.event("daemon.bug", { where: "a WebSocket", error });
      upgrade.destroy();
    }
  };
  server.on("upgrade", (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    stream.on("error", () => stream.destroy());
    const upgrade = new Upgrade(sockets, request, stream, head);
    underWay.set(request, upgrade);
    void serve(upgrade);
  });
}

/** Turns an upgrade into a request for the router. */
function asRequest({ request, signal }: Upgrade): Request {
  const { url = "", rawHeaders } = request;
  const path = url.startsWith("/") ? url : `/${encodeURIComponent(url)}`;
  const headers = new Headers();
  for (let at = 0; at + 1 < rawHeaders.length; at += 2)
    headers.append(rawHeaders[at] ?? "", rawHeaders[at + 1] ?? "");
  return new Request(`http://hearthd${path}`, { method: WEBSOCKET, headers, signal });
}

function httpText(answer: Response, body: string): string {
  const headers = [...answer.headers].filter(([name]) => name !== "content-length" && name !== "connection");
  const lines = [
    `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}`,
    "connection: close",
    ...headers.map(([name, value]) => `${name}: ${value}`),
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}
