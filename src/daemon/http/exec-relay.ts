/**
 * Carries one command between a client's WebSocket and the agent in the guest; see src/api/exec-stream.ts for the
 * messages:
 *
 * 1. The client's first message is the request. Signals and window sizes that arrive before the command has started
 *    wait.
 * 2. hearthd starts the command through the agent, and sends `started` with its pid.
 * 3. Output goes to the client in binary messages. If the client reads slowly, the guest's output waits.
 * 4. Stdin comes in binary messages, within a window: hearthd acknowledges what the command has read.
 * 5. `exit` is the last message. The caller sends it.
 */
import { constants } from "node:os";
import type { WebSocket } from "ws";
import { CHANNEL } from "#api/exec-stream.ts";
import type { ClientMessage, ServerMessage } from "#api/exec-stream.ts";
import type { Dial, Exec } from "#api/wire.ts";
import { inTime } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";
import { ExecControls } from "#daemon/http/exec-controls.ts";
import { checkExec } from "#model/exec-spec.ts";
import type { ExecSpec } from "#model/exec-spec.ts";

/** Bytes in the socket's buffer above which output waits in the guest. */
const SOCKET_BUFFER_MAX_BYTES = 1024 * 1024;
/** Bytes of stdin above which a client is disconnected. One that keeps to its window never reaches it. */
const STDIN_QUEUE_MAX_BYTES = 4 * 1024 * 1024;
const FIRST_MESSAGE_MS = 10_000;
const LOOPBACK = "127.0.0.1";

/** The last message of an exec that ran. */
export type ExitMessage = Extract<ServerMessage, { type: "exit" }>;

/** Sends one message. A client that has gone is noticed by the socket's close. */
export function sendMessage(socket: WebSocket, message: ServerMessage): void {
  socket.send(JSON.stringify(message));
}

/** Checks an exec. @throws HearthError `input.invalid` for one that no guest could run */
export function toExecSpec(exec: Exec): ExecSpec {
  const spec = {
    argv: exec.argv,
    env: exec.env ?? {},
    user: exec.user,
    workdir: exec.workdir,
    tty: exec.tty,
    stdin: exec.stdin ?? false,
    detach: exec.detach ?? false,
    timeoutMs: exec.timeoutMs,
  };
  checkExec(spec);
  return spec;
}

type Issue = { readonly path: readonly PropertyKey[]; readonly message: string };
type ParseResult<Value> =
  { success: true; data: Value } | { success: false; error: { readonly issues: readonly Issue[] } };

/** Checks a first message. @throws HearthError `input.invalid` with all that is wrong with it */
export function parseFirst<Value>(
  schema: { safeParse(first: unknown): ParseResult<Value> },
  first: unknown,
): Value {
  const parsed = schema.safeParse(first);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new HearthError("input.invalid", problems.join("; ").slice(0, 4_000));
}

/** Receives what the client sends: the request, then stdin, signals and window sizes. */
export class ClientInput {
  readonly #socket: WebSocket;
  readonly #chunks: Uint8Array[] = [];
  #queuedBytes = 0;
  #ended = false;
  #wake = Promise.withResolvers<void>();
  /** Set once there is a command to control; until then, signals wait. */
  #control: ((message: ClientMessage) => void) | undefined;
  readonly #early: ClientMessage[] = [];
  readonly #first = Promise.withResolvers<unknown>();
  #hasFirst = false;

  /** Listens to the socket. To be made as soon as that is open: several messages may arrive in one tick. */
  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on("message", (payload: Buffer, isBinary) => {
      if (this.#hasFirst) return this.#take(payload, isBinary);
      this.#hasFirst = true;
      this.#takeFirst(payload);
    });
    socket.on("close", () => {
      this.#first.reject(unreadable("The client has disconnected."));
      this.#end();
    });
  }

  /**
   * Returns the request. @throws HearthError `input.invalid` when it is no JSON, or does not arrive in time; the reason
   * of `signal`
   */
  async first(signal: AbortSignal): Promise<unknown> {
    const late = (): Error => unreadable("It did not arrive in time.");
    return inTime(this.#first.promise, FIRST_MESSAGE_MS, late, signal);
  }

  /** Yields stdin, and acknowledges what the command has read, so that the client may send more. */
  async *stdin(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        yield chunk;
        this.#queuedBytes -= chunk.length;
        sendMessage(this.#socket, { type: "ack", bytes: chunk.length });
        continue;
      }
      if (this.#ended) return;
      await this.#wake.promise;
      this.#wake = Promise.withResolvers<void>();
    }
  }

  onControl(control: (message: ClientMessage) => void): void {
    this.#control = control;
    for (const message of this.#early.splice(0)) control(message);
  }

  #takeFirst(payload: Buffer): void {
    try {
      this.#first.resolve(JSON.parse(payload.toString()));
    } catch (error) {
      this.#first.reject(unreadable(error));
    }
  }

  #take(payload: Buffer, isBinary: boolean): void {
    if (!isBinary) {
      const message = readClientMessage(payload.toString());
      if (message === undefined) return this.#socket.close(1007, "not a message of this API");
      if (this.#control) this.#control(message);
      else if (this.#early.length < 100) this.#early.push(message);
      return;
    }
    if (payload[0] !== CHANNEL.stdin) return this.#socket.close(1007, "only stdin comes from a client");
    if (payload.length === 1) return this.#end();
    const chunk = payload.subarray(1);
    this.#queuedBytes += chunk.length;
    if (this.#queuedBytes > STDIN_QUEUE_MAX_BYTES)
      return this.#socket.close(1009, "more stdin than the window allows");
    this.#chunks.push(chunk);
    this.#wake.resolve();
  }

  #end(): void {
    this.#ended = true;
    this.#wake.resolve();
  }
}

/** Relays one command, and resolves with its exit once the client has been sent everything but that. */
export async function relayExec(
  socket: WebSocket,
  input: ClientInput,
  guest: Guest,
  spec: ExecSpec,
  id: string,
  signal: AbortSignal,
): Promise<ExitMessage> {
  const controls = new ExecControls(
    (message) => controlExec(guest, id, message, signal),
    () => socket.close(1009, "more signals than the command takes"),
  );
  const events = guest.exec(spec, { id, stdin: input.stdin() }, signal);
  for await (const event of events) {
    switch (event.type) {
      case "started":
        sendMessage(socket, { type: "started", pid: event.pid });
        input.onControl((message) => controls.add(message));
        break;
      case "stdout":
      case "stderr":
        await sendBytes(socket, CHANNEL[event.type], event.bytes);
        break;
      case "exited":
        return {
          type: "exit",
          code: event.code,
          ...(event.signal ? { signal: event.signal } : {}),
          timedOut: event.timedOut,
        };
    }
  }
  throw new HearthError("agent.failed", "The guest agent did not send the exit code of the command.");
}

/** Relays one connection to a port of the guest. `started` says that it is open. Resolves when both ends have ended. */
export async function relayDial(
  socket: WebSocket,
  input: ClientInput,
  guest: Guest,
  { port }: Dial,
  signal: AbortSignal,
): Promise<void> {
  let isOpen = false;
  const target = { network: "tcp", host: LOOPBACK, port } as const;
  for await (const bytes of guest.dial(target, input.stdin(), signal)) {
    if (!isOpen) sendMessage(socket, { type: "started", pid: 0 });
    isOpen = true;
    if (bytes.length > 0) await sendBytes(socket, CHANNEL.stdout, bytes);
  }
}

/** Sends a signal or a window size. A command that has just ended cannot be signalled; its exit follows and says so. */
async function controlExec(
  guest: Guest,
  id: string,
  message: ClientMessage,
  signal: AbortSignal,
): Promise<void> {
  try {
    if (message.type === "resize") await guest.resizeExec(id, message, signal);
    else await guest.signalExec(id, constants.signals[message.signal as NodeJS.Signals], signal);
  } catch (error) {
    if (error instanceof HearthError && !signal.aborted && error.code === "internal.bug") throw error;
  }
}

async function sendBytes(socket: WebSocket, channel: number, bytes: Uint8Array): Promise<void> {
  if (socket.readyState !== socket.OPEN) return;
  const message = Buffer.allocUnsafe(bytes.length + 1);
  message[0] = channel;
  message.set(bytes, 1);
  if (socket.bufferedAmount < SOCKET_BUFFER_MAX_BYTES) return socket.send(message);
  await new Promise<void>((resolve) => socket.send(message, () => resolve()));
}

function unreadable(cause: unknown): HearthError {
  return new HearthError("input.invalid", "Cannot read the first message of the exec.", { cause });
}

function readClientMessage(text: string): ClientMessage | undefined {
  try {
    const message = JSON.parse(text) as ClientMessage;
    if (message.type === "resize" && isSide(message.rows) && isSide(message.cols)) return message;
    if (message.type === "signal" && Object.hasOwn(constants.signals, message.signal)) return message;
    return undefined;
  } catch {
    return undefined; // Not JSON: the caller refuses it.
  }
}

function isSide(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) > 0 && Number(value) <= 10_000;
}
