/** QEMU's monitor protocol: JSON lines on a Unix socket. QEMU serves one client at a time. */
import type { Socket } from "node:net";
import { HearthError } from "#base/error.ts";
import { within } from "#base/deadline.ts";

/** The commands that Hearth uses, with what they take and give. */
export type QmpCommands = {
  qmp_capabilities: { take: undefined; give: unknown };
  "query-status": { take: undefined; give: { running: boolean; status: string } };
  stop: { take: undefined; give: unknown };
  cont: { take: undefined; give: unknown };
  "query-block": { take: undefined; give: readonly { readonly qdev?: string }[] };
  block_set_io_throttle: { take: IoThrottle; give: unknown };
  balloon: { take: { readonly value: number }; give: unknown };
  "query-balloon": { take: undefined; give: { readonly actual: number } };
  migrate: { take: { readonly uri: string }; give: unknown };
  "migrate-incoming": { take: { readonly uri: string }; give: unknown };
  migrate_cancel: { take: undefined; give: unknown };
  "query-migrate": { take: undefined; give: MigrationStatus };
  "migrate-set-parameters": {
    take: { readonly "max-bandwidth": number; readonly "downtime-limit": number };
    give: unknown;
  };
  "migrate-set-capabilities": {
    take: { readonly capabilities: readonly { readonly capability: string; readonly state: boolean }[] };
    give: unknown;
  };
  "query-memory-size-summary": { take: undefined; give: { readonly "base-memory": number } };
};

/** `status` is undefined as long as there was no migration. */
export type MigrationStatus = {
  readonly status?: string;
  readonly "error-desc"?: string;
  /** `dirty-sync-count` is the number of rounds over the memory so far. */
  readonly ram?: { readonly remaining: number; readonly "dirty-sync-count"?: number };
};

/** The limits of one disk, per second; 0 is no limit. `…_max` is a bucket that holds more than a tenth of a second. */
export type IoThrottle = {
  readonly id: string;
  readonly bps: number;
  readonly bps_rd: 0;
  readonly bps_wr: 0;
  readonly iops: number;
  readonly iops_rd: 0;
  readonly iops_wr: 0;
  readonly bps_max?: number;
  readonly iops_max?: number;
};

export type QmpEvent = {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
};

type Reply = {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
};
type Waiting = { readonly resolve: (reply: Reply) => void; readonly reject: (error: Error) => void };

/** A line of QEMU's has a few kB at most; a longer one is not QEMU's. */
const LINE_MAX_CHARS = 1024 * 1024;

/** A QMP connection: commands in order, events as they come. */
export class QmpMonitor {
  readonly #socket: Socket;
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #greeted = Promise.withResolvers<void>();
  /** Resolves when the connection is closed: QEMU ended, or `close` was called. Never rejects. */
  readonly closed: Promise<void>;
  #nextId = 1;
  #partial = "";
  #gone = false;

  private constructor(socket: Socket, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    this.#greeted.promise.catch(() => {}); // The caller of `open` awaits it.
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#read(text));
    socket.on("error", () => {}); // "close" follows.
    socket.once("close", () => {
      this.#end(new HearthError("vmm.failed", "QEMU closed its monitor."));
      resolve();
    });
    socket.unref();
  }

  /**
   * Opens the monitor: waits for the greeting, and leaves negotiation mode.
   * @throws HearthError `vmm.unresponsive` after `deadlineMs`, `vmm.failed` when QEMU has closed the connection
   */
  static async open(
    socket: Socket,
    onEvent: (event: QmpEvent) => void,
    deadlineMs: number,
  ): Promise<QmpMonitor> {
    const monitor = new QmpMonitor(socket, onEvent);
    try {
      await withDeadline(monitor.#greeted.promise, "greet", deadlineMs);
      await monitor.send("qmp_capabilities", undefined, deadlineMs);
    } catch (error) {
      monitor.close();
      throw error;
    }
    return monitor;
  }

  /**
   * Sends a command, and returns QEMU's answer.
   * @throws HearthError `vmm.failed` with QEMU's reason, `vmm.unresponsive` after `deadlineMs`
   */
  async send<Name extends keyof QmpCommands>(
    command: Name,
    take: QmpCommands[Name]["take"],
    deadlineMs: number,
  ): Promise<QmpCommands[Name]["give"]> {
    if (this.#gone) throw new HearthError("vmm.failed", "QEMU closed its monitor.");
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    this.#waiting.set(id, { resolve, reject });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: take, id })}\n`);
    try {
      const reply = await withDeadline(promise, command, deadlineMs);
      if (reply.error === undefined) return reply.return as QmpCommands[Name]["give"];
      throw new HearthError("vmm.failed", `QEMU refused ${command}`, { cause: new Error(reply.error.desc) });
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Idempotent. */
  close(): void {
    this.#end(new HearthError("vmm.failed", "The connection to QEMU was closed."));
    this.#socket.destroy();
  }

  #end(error: HearthError): void {
    this.#gone = true;
    this.#greeted.reject(error);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #read(text: string): void {
    const lines = (this.#partial + text).split("\n");
    this.#partial = lines.pop() ?? "";
    if (this.#partial.length > LINE_MAX_CHARS) this.close();
    for (const line of lines) if (line.trim() !== "") this.#take(line);
  }

  #take(line: string): void {
    if (this.#gone) return;
    const message = parseMessage(line);
    if (message === undefined) return this.close(); // The peer does not speak QMP; callers that wait get an error.
    if (message.QMP !== undefined) this.#greeted.resolve();
    else if (message.event !== undefined) this.#tell(message);
    else if (message.id !== undefined) this.#waiting.get(message.id)?.resolve(message);
  }

  /**
   * Passes an event on. An error of its reader would end hearthd: an event that it cannot read is not QEMU's, and ends
   * the connection.
   */
  #tell(event: QmpEvent): void {
    try {
      this.#onEvent(event);
    } catch (error) {
      this.#end(new HearthError("vmm.failed", "QEMU sent an invalid event.", { cause: error }));
      this.close();
    }
  }
}

type Message = { QMP?: unknown; event?: string; id?: number } & Reply & QmpEvent;

/** Parses a message. Undefined for what is none: a VMM that was taken over may write anything. */
function parseMessage(line: string): Message | undefined {
  try {
    const parsed: unknown = JSON.parse(line);
    return isMessage(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function isMessage(value: unknown): value is Message {
  if (!isObject(value)) return false;
  const { event, data, error } = value;
  if (error !== undefined && !(isObject(error) && typeof error["desc"] === "string")) return false;
  return event === undefined || (typeof event === "string" && (data === undefined || isObject(data)));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

async function withDeadline<Value>(
  promise: Promise<Value>,
  what: string,
  deadlineMs: number,
): Promise<Value> {
  const answer = await within(
    promise.then((value) => ({ value })),
    deadlineMs,
  );
  if (answer !== undefined) return answer.value;
  throw new HearthError("vmm.unresponsive", `QEMU did not answer ${what} within ${deadlineMs} ms.`);
}
