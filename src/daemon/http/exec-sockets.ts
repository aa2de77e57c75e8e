/**
 * The WebSockets `/v1/vms/{vm}/exec` and `/v1/run`: from the upgrade to the close.
 *
 *   1. An upgrade is routed by its path. What is refused is answered as any request of the API is: status, headers,
 *      error body.
 *   2. The first message is the request. A command runs (`exec-relay.ts`), or a VM for one (`serve-run.ts`).
 *   3. The last message is the exit, or an error. Then the server closes: with 1000, or with 1001 when hearthd stops.
 *
 * Node takes its own error handlers off a socket that is upgraded, so each gets one before anything else is done to it.
 */
import { STATUS_CODES } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { execSchema } from "#api/schemas.ts";
import { OPERATION_HEADER, VERSION_HEADER } from "#api/events.ts";
import { ERROR_CODES, errorBody, HearthError, toHearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { assertVisible } from "#daemon/http/visible-vm.ts";
import { operationOf } from "#daemon/http/admit-request.ts";
import { ClientInput, parseFirst, relayExec, sendMessage, toExecSpec } from "#daemon/http/exec-relay.ts";
import { serveRun } from "#daemon/http/serve-run.ts";
import type { OperationId } from "#model/ids.ts";

/** The first message holds the argv; the others at most one chunk of stdin. */
const MESSAGE_MAX_BYTES = 4 * 1024 * 1024;
const CLOSE = { done: 1000, stopping: 1001 };
/** For a client to answer the close. */
const CLOSE_MS = 1_000;

/** One client and its command. */
export type ExecSession = {
  readonly daemon: Daemon;
  readonly socket: WebSocket;
  readonly input: ClientInput;
  readonly operation: OperationId;
  /** Aborts when the client has gone, and when hearthd stops. */
  readonly signal: AbortSignal;
};

type Route = { readonly path: string; readonly serve: (session: ExecSession) => Promise<void> };

/** Serves the upgrades of `server`. */
export function serveExecSockets(server: Server, daemon: Daemon): void {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_MAX_BYTES,
    perMessageDeflate: false,
    skipUTF8Validation: true,
  });
  const operations = new WeakMap<IncomingMessage, OperationId>();
  sockets.on("headers", (headers, request) => {
    headers.push(`${VERSION_HEADER}: ${daemon.version}`);
    headers.push(`${OPERATION_HEADER}: ${operations.get(request)}`);
  });
  sockets.on("wsClientError", (error, stream, request) => {
    const hint = "GET /openapi.json describes every request.";
    const refusal = new HearthError("input.invalid", "The WebSocket's handshake is wrong.", {
      hint,
      cause: error,
    });
    refuse(daemon, request, stream, refusal);
  });
  server.on("upgrade", (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    stream.on("error", () => stream.destroy());
    try {
      const route = routeOf(request);
      const operation = operationOf(daemon, headerOf(request));
      if (daemon.ending.error !== undefined) throw daemon.ending.error;
      operations.set(request, operation);
      sockets.handleUpgrade(request, stream, head, (socket) => {
        void daemon.ending.track(serveSocket(socket, daemon, route, operation));
      });
    } catch (error) {
      refuse(daemon, request, stream, error);
    }
  });
}

/** @throws HearthError `api.not_found` */
function routeOf(request: IncomingMessage): Route {
  const path = request.url?.split("?", 1)[0] ?? "";
  if (path === "/v1/run") return { path, serve: serveRun };
  const vm = decoded(/^\/v1\/vms\/([^/]+)\/exec$/.exec(path)?.[1]);
  if (vm !== undefined) return { path, serve: (session) => serveExec(vm, session) };
  throw new HearthError("api.not_found", `The API has no WebSocket ${path.slice(0, 200)}.`);
}

function decoded(segment: string | undefined): string | undefined {
  try {
    return segment && decodeURIComponent(segment);
  } catch {
    return undefined; // No text is encoded like that, and no VM has that name.
  }
}

function headerOf(request: IncomingMessage): string | undefined {
  const given = request.headers[OPERATION_HEADER];
  return Array.isArray(given) ? given[0] : given;
}

/** Answers as the rest of the API does, and closes the connection. */
function refuse(daemon: Daemon, request: IncomingMessage, stream: Duplex, thrown: unknown): void {
  const error = toHearthError(thrown);
  const { status } = ERROR_CODES[error.code];
  const body = Buffer.from(JSON.stringify({ error: errorBody(error) }));
  const route = `${request.method} ${request.url?.slice(0, 200)}`;
  daemon.host.log.event("api.failed", { route, code: error.code, error: thrown });
  stream.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
      `${VERSION_HEADER}: ${daemon.version}\r\ncontent-length: ${body.byteLength}\r\n\r\n${body.toString()}`,
    () => stream.destroy(),
  );
}

/** One connection: its first message, the work, and an error as the last message if it comes to that. */
async function serveSocket(
  socket: WebSocket,
  daemon: Daemon,
  { path, serve }: Route,
  operation: OperationId,
): Promise<void> {
  const gone = new AbortController();
  const input = new ClientInput(socket);
  socket.on("close", () => gone.abort(new HearthError("operation.cancelled", "The client has gone.")));
  socket.on("error", () => socket.terminate());
  using admitted = daemon.ending.admit(gone.signal);
  try {
    const served = serve({ daemon, socket, input, operation, signal: admitted.signal });
    await Promise.race([served, admitted.givenUp]);
  } catch (thrown) {
    const error = daemon.ending.explain(thrown);
    const body = errorBody(error, operation);
    // A client that goes away is no failure of the API.
    if (!gone.signal.aborted) {
      sendMessage(socket, { type: "error", error: body });
      daemon.host.log.child({ operation }).event("api.failed", { route: path, code: body.code, error });
    }
  }
  socket.close(daemon.ending.error === undefined ? CLOSE.done : CLOSE.stopping);
  const timer = setTimeout(() => socket.terminate(), CLOSE_MS);
  socket.once("close", () => clearTimeout(timer));
}

async function serveExec(vm: string, { daemon, socket, input, signal }: ExecSession): Promise<void> {
  const spec = toExecSpec(parseFirst(execSchema, await input.first(signal)));
  assertVisible(daemon, vm);
  const { guest } = await daemon.vms.guest(vm, "exec", signal);
  const id = Buffer.from(daemon.host.random(8)).toString("hex");
  sendMessage(socket, await relayExec(socket, input, guest, spec, id, signal));
}
