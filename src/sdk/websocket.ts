/**
 * A WebSocket client (RFC 6455) for its only server: hearthd, on a Unix socket.
 *
 * The `ws` package does the same and more, but loading it costs every `hearth exec` 25 ms (measured: bare Node 35 ms,
 * with node:net 45 ms, with ws 76 ms). Frames are sent with the mask 0: masks protect proxies between a browser and a
 * server, and there are none here. A mask of 0 spares both sides a pass over every byte.
 */
import type { Socket } from "node:net";
import { VERSION_HEADER } from "#api/events.ts";
import { abortAfter } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import { errorFromText } from "#sdk/transport.ts";

const OP = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;
const FIN = 0x80;
const MASKED = 0x80;
/** The limit for a frame. hearthd sends far smaller ones; a longer one is a fault of the server. */
const FRAME_MAX_BYTES = 16 * 1024 * 1024;
const HANDSHAKE_MAX_BYTES = 1024 * 1024;
/** The time for the handshake. hearthd answers in milliseconds; a host that is short of memory may take seconds. */
const HANDSHAKE_MS = 60_000;
const SWITCHING = 101;
const VERSION = new RegExp(`^${VERSION_HEADER}:\\s*(\\S+)\\r$`, "im");
const NO_MASK = Buffer.alloc(4);

export type WebSocketHandlers = {
  onText(text: string): void;
  /** `payload` is a view of the read buffer. Callers that keep it must copy it. */
  onBinary(payload: Buffer): void;
  /** Called once, as the last callback. Undefined if the server closed the connection in order. */
  onClose(error: Error | undefined): void;
};

export type OpenOptions = {
  /** Cancels the handshake. The promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** The time for the server's answer in milliseconds. hearthd answers before it builds or boots anything. */
  readonly deadlineMs?: number | undefined;
  readonly onVersion?: ((version: string) => void) | undefined;
};

/**
 * Performs the handshake on a connected socket.
 * @throws HearthError the error that the server answered; `daemon.unreachable` if it does not answer in time.
 */
export async function openWebSocket(
  socket: Socket,
  path: string,
  handlers: WebSocketHandlers,
  { signal, deadlineMs = HANDSHAKE_MS, onVersion }: OpenOptions = {},
): Promise<WebSocketClient> {
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: hearthd\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aGVhcnRoIGlzIGxvY2FsIQ==\r\n\r\n",
  );
  using inTime = abortAfter(deadlineMs, () => noAnswer(deadlineMs), signal);
  const { headers, rest } = await readHandshake(socket, inTime.signal);
  const version = VERSION.exec(headers)?.[1];
  if (version !== undefined) onVersion?.(version);
  return new WebSocketClient(socket, rest, handlers);
}

type Handshake = { readonly headers: string; readonly rest: Buffer };

function noAnswer(deadlineMs: number): HearthError {
  return new HearthError("daemon.unreachable", `hearthd has not answered in ${deadlineMs / 1000} s`, {
    hint: "See `hearth daemon status` and `hearth daemon logs`.",
  });
}

/**
 * Reads the answer to its end of headers. After a 101, whatever follows is frames already.
 * @throws the reason of `signal`.
 */
function readHandshake(socket: Socket, signal: AbortSignal): Promise<Handshake> {
  return new Promise((resolve, reject) => {
    let read = Buffer.alloc(0);
    const finish = (): void => {
      signal.removeEventListener("abort", leave);
      socket.removeAllListeners();
      socket.pause();
    };
    const leave = (): void => {
      finish();
      // Later errors of this socket are of no use to anyone.
      socket.on("error", () => undefined).destroy();
      reject(signal.reason);
    };
    signal.addEventListener("abort", leave, { once: true });
    if (signal.aborted) return leave();
    const refuse = (error?: Error): void => {
      finish();
      socket.destroy();
      const text = read.toString();
      const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);
      if (status !== 0 && status !== SWITCHING)
        return reject(errorFromText(text.slice(text.indexOf("{"), text.lastIndexOf("}") + 1), status));
      const hint = "See `hearth daemon logs`.";
      reject(new HearthError("daemon.unreachable", "hearthd closed the connection", { hint, cause: error }));
    };
    socket.on("data", (chunk: Buffer) => {
      read = Buffer.concat([read, chunk]);
      const end = read.indexOf("\r\n\r\n");
      const accepted = read.subarray(0, 12).toString() === "HTTP/1.1 101";
      if (accepted && end !== -1) {
        finish();
        resolve({ headers: read.subarray(0, end + 2).toString(), rest: read.subarray(end + 4) });
      } else if (read.byteLength > HANDSHAKE_MAX_BYTES || (end !== -1 && isWhole(read, end))) refuse();
    });
    socket.once("error", refuse);
    socket.once("close", () => refuse());
  });
}

/** Tells whether an error answer is complete, so that the client need not wait for the server to close. */
function isWhole(read: Buffer, headersEnd: number): boolean {
  const headers = read.subarray(0, headersEnd).toString();
  const length = /^content-length:\s*(\d+)/im.exec(headers)?.[1];
  if (length !== undefined) return read.byteLength >= headersEnd + 4 + Number(length);
  return read.subarray(-5).toString() === "0\r\n\r\n";
}

/** An open connection. Writes wait for the socket; reading can be paused. */
export class WebSocketClient {
  readonly #socket: Socket;
  readonly #handlers: WebSocketHandlers;
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #message: { readonly op: number; readonly parts: Buffer[] } | undefined;
  #paused = false;
  #closed = false;
  #ended = false;

  constructor(socket: Socket, rest: Buffer, handlers: WebSocketHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", (error) => this.#close(error));
    socket.on("end", () => (this.#ended = true));
    socket.on("close", () => this.#finish());
    // Deferred until the caller has the object, which its handlers may use.
    queueMicrotask(() => {
      if (rest.byteLength > 0) this.#take(rest);
      if (!this.#paused) socket.resume();
    });
  }

  sendText(text: string): void {
    const payload = Buffer.from(text);
    this.#send(OP.text, [payload], payload.byteLength);
  }

  /** Sends a binary message. `done` is called when the kernel has the bytes and `parts` may be reused. */
  sendBinary(parts: readonly Uint8Array[], done?: () => void): void {
    const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
    this.#send(OP.binary, parts, bytes, done);
  }

  /** Stops reading. The server then blocks once the socket's buffers are full. */
  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#drain();
    if (!this.#paused) this.#socket.resume();
    if (this.#ended) this.#finish();
  }

  /** Closes in order: a close frame, then the end of the stream. The process may end before the server answers. */
  close(): void {
    if (this.#closed) return;
    this.#send(OP.close, [], 0);
    this.#socket.end();
    this.#socket.resume();
    this.#socket.unref();
  }

  /** Closes the socket at once. */
  destroy(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  #send(op: number, parts: readonly Uint8Array[], bytes: number, done?: () => void): void {
    if (this.#closed || !this.#socket.writable) return done?.();
    this.#socket.cork();
    this.#socket.write(frameHeader(op, bytes));
    for (const part of parts) this.#socket.write(part);
    this.#socket.uncork();
    // The callback of an empty write runs after everything before it has reached the kernel.
    if (done !== undefined) this.#socket.write("", () => done());
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bufferedBytes += chunk.byteLength;
    this.#drain();
  }

  #drain(): void {
    while (!this.#paused && !this.#closed) {
      const frame = this.#nextFrame();
      if (frame === undefined) return;
      this.#handle(frame);
    }
  }

  /** Returns the next complete frame, or undefined until more data has arrived. */
  #nextFrame(): { op: number; fin: boolean; payload: Buffer } | undefined {
    if (this.#bufferedBytes < 2) return undefined;
    const head = this.#peek(10);
    const [first = 0, second = 0] = head;
    let length = second & 0x7f;
    let start = 2;
    if (length === 126) {
      if (head.byteLength < 4) return undefined;
      length = head.readUInt16BE(2);
      start = 4;
    } else if (length === 127) {
      if (head.byteLength < 10) return undefined;
      length = Number(head.readBigUInt64BE(2));
      start = 10;
    }
    if (length > FRAME_MAX_BYTES || (second & MASKED) !== 0) {
      this.#close(new HearthError("internal.bug", "hearthd sent an invalid WebSocket frame."));
      this.#socket.destroy();
      return undefined;
    }
    if (this.#bufferedBytes < start + length) return undefined;
    const payload = this.#read(start + length).subarray(start);
    return { op: first & 0x0f, fin: (first & FIN) !== 0, payload };
  }

  #handle({ op, fin, payload }: { op: number; fin: boolean; payload: Buffer }): void {
    if (op === OP.ping) return this.#send(OP.pong, [payload], payload.byteLength);
    if (op === OP.pong) return;
    if (op === OP.close) {
      this.close();
      return;
    }
    if (!fin || op === OP.continuation) {
      this.#message ??= { op, parts: [] };
      this.#message.parts.push(payload);
      if (!fin) return;
    }
    const whole = this.#message === undefined ? { op, payload } : joined(this.#message);
    this.#message = undefined;
    if (whole.op === OP.text) this.#handlers.onText(whole.payload.toString());
    else this.#handlers.onBinary(whole.payload);
  }

  #peek(bytes: number): Buffer {
    const [first = NO_MASK] = this.#chunks;
    if (first.byteLength >= bytes || this.#chunks.length === 1) return first.subarray(0, bytes);
    return Buffer.concat(this.#chunks).subarray(0, bytes);
  }

  #read(bytes: number): Buffer {
    const [first = NO_MASK] = this.#chunks;
    // Bytes are copied only here, when a frame arrived in several pieces.
    const all = first.byteLength >= bytes ? first : Buffer.concat(this.#chunks.splice(0));
    if (all !== first) this.#chunks.push(all);
    const rest = all.subarray(bytes);
    if (rest.byteLength === 0) this.#chunks.shift();
    else this.#chunks[0] = rest;
    this.#bufferedBytes -= bytes;
    return all.subarray(0, bytes);
  }

  #finish(): void {
    // A paused reader still gets what arrived before the end.
    if (this.#paused && this.#bufferedBytes > 0 && !this.#closed) return;
    this.#close(undefined);
  }

  #close(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handlers.onClose(error);
  }
}

function joined(message: { readonly op: number; readonly parts: Buffer[] }): { op: number; payload: Buffer } {
  return { op: message.op, payload: Buffer.concat(message.parts) };
}

function frameHeader(op: number, bytes: number): Buffer {
  const extra = bytes < 126 ? 0 : bytes < 65_536 ? 2 : 8;
  const header = Buffer.alloc(2 + extra + 4);
  header[0] = FIN | op;
  header[1] = MASKED | (extra === 0 ? bytes : extra === 2 ? 126 : 127);
  if (extra === 2) header.writeUInt16BE(bytes, 2);
  if (extra === 8) header.writeBigUInt64BE(BigInt(bytes), 2);
  return header;
}
