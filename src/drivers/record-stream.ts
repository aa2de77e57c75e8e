/**
 * A guest's serial console, read into a bounded file. A guest may print as fast as it can: chunks are written at
 * once and never kept. H2.
 */
import type { Socket } from "node:net";
import { BoundedFile, readTail } from "#host/bounded-file.ts";

export type StreamRecorder = {
  /** Resolves when the VMM closed the console, or `stop` was called. Never rejects. */
  readonly ended: Promise<void>;
  /** Idempotent. */
  stop(): void;
};

export type RecordOptions = {
  readonly maxBytes: number;
  /** The guest has run before without a reader: a line in the file says that output may be missing. */
  readonly resumed: boolean;
  /** The file cannot be written, as on a full disk; said once until it can be again. */
  readonly onTrouble: (path: string, error: unknown) => void;
};

const GAP = Buffer.from("\n[hearth: the console was not recorded for a while; lines may be missing here]\n");

/** @throws the system's error when the file cannot be made; the socket is closed then. */
export function recordStream(socket: Socket, path: string, options: RecordOptions): StreamRecorder {
  let file: BoundedFile;
  try {
    file = new BoundedFile(path, options.maxBytes);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  let gap = options.resumed;
  let troubled = false;
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    try {
      if (gap) file.append(GAP);
      gap = false;
      file.append(chunk);
      troubled = false;
    } catch (error) {
      // Goes on reading, so that the guest never waits for our disk.
      gap = true;
      if (!troubled) options.onTrouble(path, error);
      troubled = true;
    }
  });
  socket.on("error", () => {}); // "close" follows; a VMM that was killed resets the connection.
  socket.once("close", () => {
    file[Symbol.dispose]();
    resolve();
  });
  socket.unref();
  return { ended, stop: () => void socket.destroy() };
}

const PANIC_TAIL_BYTES = 8 * 1024;

/** The guest's kernel gave up, by the last words of its console. A guest can lie about that, to its own harm. */
export function endsInPanic(consoleLog: string): boolean {
  return readTail(consoleLog, PANIC_TAIL_BYTES).includes("Kernel panic - not syncing");
}
