/**
 * hearthd, with one difference: it is late. The first connection to the agent of each VMM, which is the one on which the
 * guest is configured, is made HEARTH_LATE_MS after hearthd asked for it.
 */
import { readlinkSync, statSync } from "node:fs";
import { Socket } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { hearthFolders } from "#base/folders.ts";
import { makePrivateFolder } from "#daemon/managed-files.ts";
import { pinoLog } from "#daemon/pino-log.ts";
import { runDaemon } from "#daemon/run-daemon.ts";
import { BoundedFile } from "#host/bounded-file.ts";

const lateMs = Number(process.env["HEARTH_LATE_MS"]);
const AGENT_SOCKET = /\/(agent|vsock)\.sock$/;
/** Agent sockets that were connected to, by device and inode: each VMM has another one. */
const seen = new Set<string>();

type Connect = (this: Socket, ...args: unknown[]) => Socket;
// oxlint-disable-next-line typescript/unbound-method -- called with its own `this` below
const connect = Socket.prototype.connect as unknown as Connect;
Socket.prototype.connect = function (this: Socket, ...args: unknown[]): Socket {
  const options = optionsOf(args);
  const path = options?.path === undefined ? "" : nameOf(options.path);
  if (options === undefined || !isFirst(path)) return connect.apply(this, args);
  options.path = path; // The descriptor that it was given by will be closed.
  setTimeout(() => connect.apply(this, args), lateMs);
  return this;
} as unknown as typeof Socket.prototype.connect;

/** Finds the options of `connect(options)`, also in the form that Node passes on to this method. */
function optionsOf([first]: unknown[]): { path?: string } | undefined {
  const options: unknown = Array.isArray(first) ? first[0] : first;
  return typeof options === "object" && options !== null ? options : undefined;
}

/** hearthd names sockets by open descriptors. */
function nameOf(path: string): string {
  return path.startsWith("/proc/self/fd/") ? readlinkSync(path) : path;
}

/** Whether this is the socket of an agent that was never connected to. */
function isFirst(path: string): boolean {
  const at = AGENT_SOCKET.test(path) ? statSync(path, { throwIfNoEntry: false }) : undefined;
  if (at === undefined || seen.has(`${at.dev}:${at.ino}`)) return false;
  seen.add(`${at.dev}:${at.ino}`);
  return true;
}

const folders = hearthFolders(process.env, homedir());
await makePrivateFolder(folders.state);
const file = new BoundedFile(join(folders.state, "hearthd.log"), 4 * 1024 * 1024);
const log = pinoLog({ write: (line) => file.append(Buffer.from(line)) });
await runDaemon(
  { folders, agentDir: join(import.meta.dirname, "../build/agent"), log },
  () => process.stdout.write("ready\n"),
  new AbortController().signal,
);
