/**
 * An agent that answers as a test tells it to, lies included. What a real one does is tested with the real
 * one (real-agent.ts); this is for what a real one never does.
 */
import { createServer as createHttp2Server } from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import type { ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { AgentService } from "#guest/gen/hearth/agent/v1/agent_pb.ts";

export type ScriptedAgent = AsyncDisposable & {
  readonly socketPath: string;
  /** Every connection that was accepted, in order. */
  readonly connections: Socket[];
  /** The bytes that the host sent before the HTTP/2 preface, over all connections. */
  readonly hellos: string[];
};

export type AgentScript = {
  readonly answers?: Partial<ServiceImpl<typeof AgentService>> | undefined;
  /** Sent before anything else, as left over from an earlier connection. */
  readonly staleBytes?: Iterable<Uint8Array> | undefined;
  /** The number of the hello that is answered; 1 is the first. 0: none ever. */
  readonly answerHello?: number | undefined;
  /** The answer and the first bytes of HTTP/2 in small pieces. */
  readonly bytewise?: boolean | undefined;
};

const HELLO = /HEARTH\/1 ([0-9a-f]{32})\n/g;
const PREFACE = "PRI * HTTP/2.0";

/** An agent that says what the test tells it to, true or not. */
export async function startScriptedAgent(socketPath: string, script: AgentScript): Promise<ScriptedAgent> {
  const http2 = createHttp2Server();
  const adapter = connectNodeAdapter({
    routes: (router) => router.service(AgentService, script.answers ?? {}),
  });
  http2.on("request", adapter);
  const connections: Socket[] = [];
  const hellos: string[] = [];
  const server: Server = createServer((socket) => {
    connections.push(socket);
    socket.on("error", () => undefined); // A test's client may vanish; the test sees that on its own side.
    for (const bytes of script.staleBytes ?? []) socket.write(bytes);
    void shake(socket, script, hellos).then((ready) => ready && http2.emit("connection", socket));
  });
  server.listen(socketPath);
  await once(server, "listening");
  return {
    socketPath,
    connections,
    hellos,
    async [Symbol.asyncDispose]() {
      for (const socket of connections) socket.destroy();
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}

/** True once the host's HTTP/2 begins, with its first bytes back in the socket. */
async function shake(socket: Socket, script: AgentScript, hellos: string[]): Promise<boolean> {
  const answerAt = script.answerHello ?? 1;
  let seen = "";
  let count = 0;
  for (;;) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      if (socket.destroyed || socket.readableEnded) return false;
      // A socket that breaks is read to its end all the same.
      await Promise.race([once(socket, "readable"), once(socket, "close")]).catch(() => undefined);
      continue;
    }
    seen += chunk.toString("latin1");
    const preface = seen.indexOf(PREFACE);
    for (const match of seen.slice(0, preface === -1 ? undefined : preface).matchAll(HELLO)) {
      hellos.push(match[0]);
      count += 1;
      if (count === answerAt) writeAnswer(socket, `HEARTH-OK/1 ${match[1]}\n`, script.bytewise === true);
    }
    if (preface !== -1) {
      socket.unshift(Buffer.from(seen.slice(preface), "latin1"));
      return true;
    }
    seen = seen.slice(seen.lastIndexOf("\n") + 1);
  }
}

function writeAnswer(socket: Socket, answer: string, bytewise: boolean): void {
  if (!bytewise) return void socket.write(answer);
  const next = (at: number): void => {
    if (at < answer.length && !socket.destroyed)
      socket.write(answer.slice(at, at + 1), () => setImmediate(next, at + 1));
  };
  next(0);
}
