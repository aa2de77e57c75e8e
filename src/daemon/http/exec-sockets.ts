/** The WebSockets `/v1/vms/{vm}/exec` and `/v1/run`. */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { execSchema, runSchema } from "#api/schemas.ts";
import type { Run } from "#api/wire.ts";
import { errorBody, HearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import type { ExecSpec } from "#model/exec-spec.ts";
import type { ExitMessage } from "#daemon/http/exec-relay.ts";
import { ClientInput, relayExec, sendMessage, toExecSpec } from "#daemon/http/exec-relay.ts";
import type { Call } from "#daemon/vms.ts";
import { operationIdFrom, parseOperationId } from "#model/ids.ts";
import type { VmRecord } from "#model/vm.ts";

/** The first message holds the argv; the others at most one chunk of stdin. */
const MESSAGE_MAX_BYTES = 4 * 1024 * 1024;
/** What a VM that outlives its command gets to flush. */
const STOP_TIMEOUT_MS = 10_000;

/** Takes the upgrades of `server`; other paths are answered with 404. */
export function serveExecSockets(server: Server, daemon: Daemon): void {
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MESSAGE_MAX_BYTES,
    perMessageDeflate: false,
    skipUTF8Validation: true,
  });
  server.on("upgrade", (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    const path = new URL(request.url ?? "/", "http://hearthd").pathname;
    const vm = /^\/v1\/vms\/([^/]+)\/exec$/.exec(path)?.[1];
    if (vm === undefined && path !== "/v1/run") {
      stream.end("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
      return;
    }
    sockets.handleUpgrade(request, stream, head, (socket) => {
      void serve(socket, daemon, (first, input, signal) =>
        vm === undefined
          ? serveRun(socket, daemon, first, input, signal)
          : serveExec(socket, daemon, decodeURIComponent(vm), first, input, signal),
      );
    });
  });
}

type Work = (first: unknown, input: ClientInput, signal: AbortSignal) => Promise<void>;

/** One connection: its first message, the work, and an error as the last message if it comes to that. */
async function serve(socket: WebSocket, daemon: Daemon, work: Work): Promise<void> {
  const gone = new AbortController();
  const input = new ClientInput(socket);
  socket.on("close", () => gone.abort(new HearthError("operation.cancelled", "The client has gone.")));
  socket.on("error", () => socket.terminate());
  try {
    await work(await input.first(), input, gone.signal);
  } catch (error) {
    if (!gone.signal.aborted) sendMessage(socket, { type: "error", error: errorBody(error) });
    daemon.host.log.event("api.failed", { route: "exec", code: errorBody(error).code, error });
  }
  socket.close();
}

function parseFirst<Value>(schema: { safeParse(first: unknown): ParseResult<Value> }, first: unknown): Value {
  const parsed = schema.safeParse(first);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new HearthError("input.invalid", problems.join("; ").slice(0, 4_000));
}

type Issue = { readonly path: readonly PropertyKey[]; readonly message: string };
type ParseResult<Value> =
  { success: true; data: Value } | { success: false; error: { readonly issues: readonly Issue[] } };

async function serveExec(
  socket: WebSocket,
  daemon: Daemon,
  vm: string,
  first: unknown,
  input: ClientInput,
  signal: AbortSignal,
): Promise<void> {
  const spec = toExecSpec(parseFirst(execSchema, first));
  const { guest } = await daemon.vms.guest(vm, "exec", signal);
  sendMessage(socket, await relayExec(socket, input, guest, spec, execId(daemon), signal));
}

/**
 * create → start → exec → stop or remove, as one request: a client that goes away at any moment leaves what
 * it would have left by waiting. BG-051.
 */
async function serveRun(
  socket: WebSocket,
  daemon: Daemon,
  first: unknown,
  input: ClientInput,
  signal: AbortSignal,
): Promise<void> {
  const run = parseFirst(runSchema, first);
  const spec = toExecSpec(run.exec);
  const call = runCall(socket, daemon, run, signal);
  const ready = await daemon.pools.take(run.vm, !spec.detach, call);
  const vm = ready ?? (await daemon.vms.create(run.vm, !spec.detach, call, true));
  sendMessage(socket, { type: "vm", id: vm.id, name: vm.name });
  let exit: ExitMessage | undefined;
  try {
    if (ready === undefined) await daemon.vms.start(vm.id, call);
    if (!spec.detach) exit = await execIn(daemon, vm, spec, socket, input, signal);
  } catch (error) {
    await endOfRun(daemon, vm, call);
    throw error;
  }
  if (exit !== undefined) await endOfRun(daemon, vm, call);
  // Detached: the VM runs and is nobody's; what becomes of the command does not touch it.
  else if (spec.argv.length > 0) exit = await execIn(daemon, vm, spec, socket, input, signal);
  sendMessage(socket, exit ?? NOTHING_RUN);
}

const NOTHING_RUN: ExitMessage = { type: "exit", code: 0, timedOut: false };

/** The command was the VM's purpose: with it, the VM ends. Also when the client has gone, so not by its signal. */
async function endOfRun(daemon: Daemon, vm: VmRecord, call: Call): Promise<void> {
  const { host, vms } = daemon;
  const lasting = { ...call, signal: new AbortController().signal };
  if (host.store.findVm(vm.id) === undefined) return; // The guest powered off, and took itself away.
  if (vm.spec.autoRemove) return vms.remove(vm.id, true, lasting);
  await vms.stop(vm.id, { mode: "graceful", timeoutMs: STOP_TIMEOUT_MS }, lasting);
  host.store.unbind(vm.id);
}

function execIn(
  daemon: Daemon,
  vm: VmRecord,
  spec: ExecSpec,
  socket: WebSocket,
  input: ClientInput,
  signal: AbortSignal,
) {
  return daemon.vms
    .guest(vm.id, "exec", signal)
    .then(({ guest }) => relayExec(socket, input, guest, spec, execId(daemon), signal));
}

function runCall(socket: WebSocket, daemon: Daemon, run: Run, signal: AbortSignal): Call {
  const { random } = daemon.host;
  const operation =
    run.operation === undefined ? operationIdFrom(random(6)) : parseOperationId(run.operation);
  return { operation, signal, onProgress: (progress) => sendMessage(socket, { type: "progress", progress }) };
}

function execId(daemon: Daemon): string {
  return Buffer.from(daemon.host.random(8)).toString("hex");
}
