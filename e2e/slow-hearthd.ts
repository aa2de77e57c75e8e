/**
 * hearthd, with one difference: it is late. The first answer of each VMM's agent reaches it HEARTH_LATE_MS after it was
 * given, so that the guest is configured so much later.
 */
import { readlinkSync, statSync } from "node:fs";
import { Socket } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { hearthDirs } from "#base/hearth-dirs.ts";
import { makePrivateDir } from "#daemon/store/managed-files.ts";
import { pinoLog } from "#daemon/lifecycle/pino-log.ts";
import { runDaemon } from "#daemon/lifecycle/run-daemon.ts";
import { BoundedFile } from "#host/bounded-file.ts";

const lateMs = Number(process.env["HEARTH_LATE_MS"]);
const AGENT_SOCKET = /\/(agent|vsock)\.sock$/;
/** When hearthd may hear of each agent, by its socket. */
const lateUntilMs = new Map<string, number>();

type Connect = (this: Socket, ...args: unknown[]) => Socket;
// oxlint-disable-next-line typescript/unbound-method -- called with its own `this` below
const connect = Socket.prototype.connect as unknown as Connect;
Socket.prototype.connect = function (this: Socket, ...args: unknown[]): Socket {
  const path = nameOf(optionsOf(args)?.path ?? "");
  if (AGENT_SOCKET.test(path)) delayFirstAnswer(this, idOf(path));
  return connect.apply(this, args);
} as unknown as typeof Socket.prototype.connect;

/** Holds back what arrives before the agent's first answer is late enough, in its order. */
function delayFirstAnswer(socket: Socket, id: string): void {
  const push = socket.push.bind(socket);
  const held: unknown[] = [];
  const release = (): void => {
    socket.push = push;
    for (const chunk of held) push(chunk);
  };
  socket.push = (chunk: unknown) => {
    if (!lateUntilMs.has(id)) lateUntilMs.set(id, performance.now() + lateMs);
    const restMs = (lateUntilMs.get(id) ?? 0) - performance.now();
    if (held.length === 0 && restMs <= 0) return push(chunk);
    if (held.length === 0) setTimeout(release, restMs);
    held.push(chunk);
    return true;
  };
}

/** Finds the options of `connect(options)`, also in the form that Node passes on to this method. */
function optionsOf([first]: unknown[]): { path?: string } | undefined {
  const options: unknown = Array.isArray(first) ? first[0] : first;
  return typeof options === "object" && options !== null ? options : undefined;
}

/** hearthd names sockets by open descriptors. */
function nameOf(path: string): string {
  return path.startsWith("/proc/self/fd/") ? readlinkSync(path) : path;
}

/** Each VMM has another socket. */
function idOf(path: string): string {
  const stats = statSync(path, { throwIfNoEntry: false });
  return `${stats?.dev}:${stats?.ino}`;
}

const dirs = hearthDirs(process.env, homedir());
await makePrivateDir(dirs.state);
const file = new BoundedFile(join(dirs.state, "hearthd.log"), 4 * 1024 * 1024);
const log = pinoLog({ write: (line) => file.append(Buffer.from(line)) });
await runDaemon(
  { dirs, agentDir: join(import.meta.dirname, "../build/agent"), log },
  () => process.stdout.write("ready\n"),
  new AbortController().signal,
);
