/** The privileged port on a real socket: hearthd's end and the helper's in one process, and the helper as a program. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import type { HelperSettings } from "#helper/helper-settings.ts";
import { PortClient } from "#helper/port-client.ts";
import { servePort } from "#helper/port-server.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";

const PROGRAM = join(import.meta.dirname, "../../bin/hearth-helper.ts");

/** Makes a pair of connected sockets, which end with the test. */
export async function socketPair(t: TestContext): Promise<[Socket, Socket]> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-pair-"));
  const server = createServer({ allowHalfOpen: true });
  server.listen(join(dir, "socket"));
  await once(server, "listening");
  const one = connect(join(dir, "socket"));
  const [other] = (await once(server, "connection")) as [Socket];
  server.close();
  rmSync(dir, { recursive: true });
  t.after(() => {
    one.destroy();
    other.destroy();
  });
  return [one, other];
}

export type ServedPort = {
  /** hearthd's end of the socket. */
  readonly socket: Socket;
  /** Resolves when the server has ended. */
  readonly served: Promise<void>;
  /** Errors that the server has told of. */
  readonly troubles: readonly unknown[];
};

/** Serves `port` on a socket, for a peer that is no client. */
export async function serve(t: TestContext, port: PrivilegedPort): Promise<ServedPort> {
  const [socket, other] = await socketPair(t);
  const troubles: unknown[] = [];
  const served = servePort(port, other, (error) => troubles.push(error));
  return { socket, served, troubles };
}

/** Serves `port` on a socket, and calls it there. */
export async function serveClient(
  t: TestContext,
  port: PrivilegedPort,
): Promise<ServedPort & { readonly client: PortClient }> {
  const { socket, ...served } = await serve(t, port);
  return { client: new PortClient(socket), socket, ...served };
}

export type HelperProcess = {
  readonly child: ChildProcess;
  readonly socket: Socket;
  readonly ended: Promise<{ readonly code: number | null; readonly stderr: string }>;
};

/** Starts the helper with one end of a socket pair as its fd 3. */
export function startHelper(t: TestContext, settings: HelperSettings | string): HelperProcess {
  const child = spawn(process.execPath, [PROGRAM], { stdio: ["pipe", "ignore", "pipe", "pipe"] });
  const socket = child.stdio[3] as unknown as Socket;
  const stderr = text(child.stderr as Readable);
  const ended = once(child, "close").then(async ([code]) => ({
    code: code as number | null,
    stderr: await stderr,
  }));
  child.stdin?.end(typeof settings === "string" ? settings : JSON.stringify(settings));
  t.after(() => {
    socket.destroy();
    child.kill("SIGKILL");
  });
  assert.ok(child.pid);
  return { child, socket, ended };
}
