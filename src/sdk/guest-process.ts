import { Readable, Writable } from "node:stream";
import { CHANNEL, STDIN_WINDOW_BYTES } from "#api/exec-stream.ts";
import type { ClientMessage, ServerMessage } from "#api/exec-stream.ts";
import type { Dial, Exec, Run } from "#api/wire.ts";
import { HearthError, toHearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import type { TtySize } from "#model/exec-spec.ts";
import type { StartStage } from "#model/start-stage.ts";
import { errorFromBody, parseSent } from "#sdk/transport.ts";
import type { Transport } from "#sdk/transport.ts";
import { openWebSocket } from "#sdk/websocket.ts";
import type { WebSocketClient } from "#sdk/websocket.ts";

/** The end of a command in a guest. */
export type GuestExit = {
  /** The command's exit code; 128+n if signal n ended it, 124 if it exceeded its `timeoutMs`. */
  readonly exitCode: number;
  /** The number of the signal that ended the command. */
  readonly signal?: number | undefined;
  readonly timedOut: boolean;
};

export type GuestProcessOptions = {
  /** Gets the progress before a run's command starts: building the image, booting. */
  readonly onProgress?: OnProgress | undefined;
  /** Called once, when the VM of a run has been created. */
  readonly onVm?: ((vm: VmOfRun) => void) | undefined;
  /** Called when the request has been sent: the time until the command has started is free for other work. */
  readonly onSent?: (() => void) | undefined;
};

/** The VM that `hearth.run` created. */
export type VmOfRun = {
  readonly id: string;
  readonly name: string;
  /** The stages of the VM's start with their durations; undefined until it runs. */
  readonly startStages?: readonly StartStage[] | undefined;
};

/** The most bytes of stdin in one message, so that a signal never waits behind more. */
const STDIN_CHUNK_BYTES = 256 * 1024;
const OUTPUT_BUFFER_BYTES = 256 * 1024;

/**
 * A command that runs in a guest, started by `vm.spawn` or `hearth.run`.
 *
 * It is the client's end of the wire between CLI and hearthd (`api/exec-stream.ts`):
 *
 * 1. Open a WebSocket to hearthd. Errors before the upgrade are plain HTTP answers.
 * 2. Send the request as the first text message.
 * 3. A run gets `progress` and `vm` messages until its command starts. Every command then gets `started` with its pid.
 * 4. stdin: send at most `STDIN_WINDOW_BYTES` that hearthd has not acknowledged; `ack` opens the window again.
 * 5. stdout and stderr: while one of them is full, stop reading the socket, which in the end stops the command.
 * 6. `exit` or `error` ends everything. A connection that breaks before is `daemon.unreachable`.
 *
 * Memory is bounded in both directions. Read both output streams, or call `resume()` on the one that you do not want:
 * unread output blocks the command.
 *
 * @example
 * const command = await vm.spawn(["sort"], { stdin: true });
 * command.stdin.end("b\na\n");
 * command.stdout.pipe(process.stdout);
 * const { exitCode } = await command.exited;
 */
export class GuestProcess implements AsyncDisposable {
  /** Takes bytes only if the command was started with `stdin: true`; otherwise it is closed. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Stays empty for a command with a terminal, which writes everything to stdout. */
  readonly stderr: Readable;
  /** Resolves when the command has ended. Rejects if its end can no longer be known. */
  readonly exited: Promise<GuestExit>;
  /** The VM of a run; undefined for a command of `vm.spawn`. */
  vm: VmOfRun | undefined;
  /** The command's process id in the guest; 0 until it has started. */
  pid = 0;

  readonly #options: GuestProcessOptions;
  readonly #exit = Promise.withResolvers<GuestExit>();
  readonly #started = Promise.withResolvers<void>();
  /** The streams that are full. While there is one, the socket is not read. */
  readonly #full = new Set<Readable>();
  #socket: WebSocketClient | undefined;
  #windowBytes = STDIN_WINDOW_BYTES;
  #onWindow: (() => void) | undefined;
  #over = false;

  private constructor(stdin: boolean, options: GuestProcessOptions) {
    this.#options = options;
    this.exited = this.#exit.promise;
    // Callers need not wait for the end or the start. Those who do still get the error.
    for (const promise of [this.exited, this.#started.promise]) promise.catch(() => undefined); // See above.
    this.stdout = this.#readable();
    this.stderr = this.#readable();
    this.stdin = new Writable({
      highWaterMark: STDIN_CHUNK_BYTES,
      write: (chunk: Buffer, _encoding, done) => this.#writeStdin(chunk, done),
      final: (done) => this.#endStdin(done),
    });
    if (!stdin) this.stdin.destroy();
  }

  /** Connects and sends the request. Resolves when the command has started. */
  static async open(
    transport: Transport,
    path: string,
    request: Exec | Run | Dial,
    options: GuestProcessOptions,
    signal?: AbortSignal,
  ): Promise<GuestProcess> {
    signal?.throwIfAborted();
    const process = new GuestProcess(hasStdin(request), options);
    const handlers = {
      onText: (text: string) => process.#takeText(text),
      onBinary: (payload: Buffer) => process.#takeOutput(payload),
      onClose: (error: Error | undefined) => process.#fail(lost(error)),
    };
    const socket = await openWebSocket(await transport.connect(signal), path, handlers, {
      signal,
      onVersion: (version) => (transport.daemonVersion = version),
    });
    process.#socket = socket;
    socket.sendText(JSON.stringify(request));
    options.onSent?.();
    const cancel = (): void => process.#cancel(signal);
    signal?.addEventListener("abort", cancel, { once: true });
    const removeListener = (): void => signal?.removeEventListener("abort", cancel);
    process.exited.then(removeListener, removeListener);
    if (signal?.aborted === true) cancel();
    await process.#started.promise;
    return process;
  }

  /** Sends a signal to the command's process group. @param name such as `SIGTERM`. */
  signal(name: string): void {
    this.#send({ type: "signal", signal: name });
  }

  /** Tells a command with a terminal the new size of its window. */
  resize(size: TtySize): void {
    this.#send({ type: "resize", rows: size.rows, cols: size.cols });
  }

  /** Closes the connection. A command that is not detached is killed. */
  close(): void {
    this.#fail(new HearthError("operation.cancelled", "The connection to the command was closed."));
    this.#socket?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    if (!this.#over) this.close();
    return Promise.resolve();
  }

  #send(message: ClientMessage): void {
    if (!this.#over) this.#socket?.sendText(JSON.stringify(message));
  }

  /** hearthd sends the VM twice: when it is created, and with its start's stages when it runs. */
  #onVm({ id, name, startStages }: ServerMessage & { type: "vm" }): void {
    const isFirst = this.vm === undefined;
    this.vm = { id, name, ...(startStages !== undefined && { startStages }) };
    if (isFirst) this.#options.onVm?.(this.vm);
  }

  /** Must not throw: the socket's event handler calls it, and there is no caller to catch. */
  #takeText(text: string): void {
    let message: ServerMessage;
    try {
      message = parseSent(text) as ServerMessage;
    } catch (error) {
      return this.#fail(toHearthError(error));
    }
    this.#take(message);
  }

  #take(message: ServerMessage): void {
    switch (message.type) {
      case "progress":
        return this.#options.onProgress?.(message.progress);
      case "vm":
        return this.#onVm(message);
      case "started":
        this.pid = message.pid;
        return this.#started.resolve();
      case "ack":
        this.#windowBytes += message.bytes;
        return this.#onWindow?.();
      case "exit": {
        const { code, signal, timedOut } = message;
        this.#started.resolve();
        this.#finish();
        return this.#exit.resolve({ exitCode: code, timedOut, ...(signal !== undefined && { signal }) });
      }
      case "error":
        return this.#fail(errorFromBody(message.error));
    }
  }

  #takeOutput(message: Buffer): void {
    const stream =
      message[0] === CHANNEL.stdout ? this.stdout : message[0] === CHANNEL.stderr ? this.stderr : undefined;
    if (stream === undefined || stream.destroyed || message.byteLength < 2) return;
    if (stream.push(message.subarray(1))) return;
    this.#full.add(stream);
    this.#socket?.pause();
  }

  #readable(): Readable {
    const stream: Readable = new Readable({
      highWaterMark: OUTPUT_BUFFER_BYTES,
      read: () => this.#wantMore(stream),
      destroy: (error, done) => {
        this.#wantMore(stream);
        done(error);
      },
    });
    return stream;
  }

  #wantMore(stream: Readable): void {
    if (this.#full.delete(stream) && this.#full.size === 0) this.#socket?.resume();
  }

  #writeStdin(chunk: Buffer, done: (error?: Error) => void): void {
    if (this.#over) return done();
    if (this.#windowBytes <= 0) {
      this.#onWindow = () => {
        this.#onWindow = undefined;
        this.#writeStdin(chunk, done);
      };
      return;
    }
    const part = chunk.subarray(0, Math.min(this.#windowBytes, STDIN_CHUNK_BYTES));
    const rest = chunk.subarray(part.byteLength);
    this.#windowBytes -= part.byteLength;
    this.#socket?.sendBinary([Uint8Array.of(CHANNEL.stdin), part], () => {
      if (rest.byteLength === 0) done();
      else this.#writeStdin(rest, done);
    });
  }

  #endStdin(done: () => void): void {
    if (!this.#over) this.#socket?.sendBinary([Uint8Array.of(CHANNEL.stdin)]);
    done();
  }

  #cancel(signal: AbortSignal | undefined): void {
    this.#fail(
      new HearthError("operation.cancelled", "The command was cancelled.", { cause: signal?.reason }),
    );
    this.#socket?.destroy();
  }

  #fail(error: HearthError): void {
    if (this.#over) return;
    this.#finish();
    this.#started.reject(error);
    this.#exit.reject(error);
  }

  #finish(): void {
    this.#over = true;
    // A write that waits for the window would wait forever.
    this.#onWindow?.();
    this.stdin.destroy();
    for (const stream of [this.stdout, this.stderr]) if (!stream.destroyed) stream.push(null);
    this.#socket?.resume();
    this.#socket?.close();
  }
}

function hasStdin(request: Exec | Run | Dial): boolean {
  if ("port" in request) return true;
  return ("exec" in request ? request.exec : request).stdin === true;
}

function lost(cause: Error | undefined): HearthError {
  return new HearthError("daemon.unreachable", "The connection to hearthd broke before the command ended", {
    hint: "See `hearth daemon status`. The VM may still be running: `hearth ls`.",
    cause,
  });
}
