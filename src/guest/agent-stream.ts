/**
 * Opens the byte stream to an agent: the Unix socket of a VMM, and on it the handshake that separates this connection's
 * bytes from those of earlier ones (docs/agent-channel.md).
 */
import { randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { HearthError } from "#base/error.ts";
import { AnswerScanner, helloLine } from "#guest/answer-scanner.ts";
import { abortError, unreachable } from "#guest/agent-error.ts";
import { dialUnix } from "#host/unix-socket.ts";
import type { AgentAddress } from "#model/vm-handle.ts";

/** The interval of hello lines. The agent may open its end at any time, and drops what arrived before. */
const HELLO_EVERY_MS = 50;

/**
 * Resolves with a socket on which the agent's HTTP/2 starts with the next byte. A VMM's socket serves one client at a
 * time and lets a second one wait silently, so `signal` should have a deadline.
 * @throws HearthError `agent.unreachable` if nothing listens or the stream ends before the answer,
 * `host.path_too_long`, `path.unmanaged` if the socket is not the VMM's, or the reason of `signal`.
 */
export async function openAgentStream(address: AgentAddress, signal: AbortSignal): Promise<Socket> {
  if (signal.aborted) throw abortError(signal);
  const socket = dial(address);
  try {
    await shakeHands(socket, address.agentVsockPort, signal);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/**
 * Connects to the socket.
 * @throws HearthError `path.unmanaged`, by `dialUnix`, if a compromised VMM has replaced it.
 */
function dial({ agentSocket, isolation }: AgentAddress): Socket {
  try {
    return dialUnix(agentSocket, isolation?.uid);
  } catch (error) {
    if (error instanceof HearthError) throw error;
    throw unreachable(error);
  }
}

function shakeHands(socket: Socket, vsockPort: number | undefined, signal: AbortSignal): Promise<void> {
  const nonce = randomBytes(16).toString("hex");
  const scanner = new AnswerScanner(nonce);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let answered = false;
  const finish = (): void => {
    // Wait for the last hello: node:http2 aborts the process when a write that is not its own ends on its socket.
    if (answered && socket.writableLength === 0) resolve();
  };
  const send = (line: string): void => void socket.write(line, "latin1", finish);
  const hello = (): void => {
    // Nothing drains while the guest's end is closed, and one waiting line is enough.
    if (!answered && socket.writableLength === 0) send(helloLine(nonce));
  };
  let timer: NodeJS.Timeout | undefined;
  const onConnect = (): void => {
    // Firecracker's hybrid vsock. Its answer, `OK` and a number, is dropped like everything before the agent's answer.
    if (vsockPort !== undefined) send(`CONNECT ${vsockPort}\n`);
    hello();
    timer = setInterval(hello, HELLO_EVERY_MS);
  };
  // Read explicitly: with `data` handlers, bytes between the answer and HTTP/2's first read would be lost.
  const onReadable = (): void => {
    while (!answered) {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      const rest = scanner.push(chunk);
      if (rest === undefined) continue;
      answered = true;
      if (rest.length > 0) socket.unshift(rest);
      finish();
    }
  };
  const onError = (cause: Error): void => reject(unreachable(cause));
  const onEnd = (): void => reject(unreachable(new Error("The stream ended before the agent answered.")));
  const onAbort = (): void => reject(abortError(signal));
  const handlers = { connect: onConnect, readable: onReadable, error: onError, end: onEnd, close: onEnd };
  for (const [event, handler] of Object.entries(handlers)) socket.on(event, handler);
  signal.addEventListener("abort", onAbort, { once: true });
  return promise.finally(() => {
    clearInterval(timer);
    signal.removeEventListener("abort", onAbort);
    for (const [event, handler] of Object.entries(handlers)) socket.off(event, handler);
    // A failed socket may report another error while it is destroyed. The first one has been passed on.
    socket.on("error", () => undefined);
  });
}
