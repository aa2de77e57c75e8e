/**
 * Records a guest's serial console into a bounded file. A guest may print as fast as it can: chunks are written at once
 * and never kept in memory.
 */
import type { Socket } from "node:net";
import { BoundedFile, readTail, sizeOf } from "#host/bounded-file.ts";

export type StreamRecorder = {
  /** Resolves when the VMM closed the console, or `stop` was called. Never rejects. */
  readonly ended: Promise<void>;
  /** Idempotent. */
  stop(): void;
};

export type RecordOptions = {
  readonly maxBytes: number;
  /** True when the guest has run before without a recorder: a line in the file says that output may be missing. */
  readonly resumed: boolean;
  /** Called when the file cannot be written, as on a full disk; once until it can be written again. */
  readonly onTrouble: (path: string, error: unknown) => void;
};

const GAP = Buffer.from("\n[hearth: the console was not recorded for a while; lines may be missing here]\n");

/**
 * Starts recording.
 * @throws the system's error when the file cannot be made; the socket is closed then
 */
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
      // Keeps reading, so that the guest never waits for the host's disk.
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
const PANIC = "Kernel panic - not syncing";
/** Lines that a kernel prints before it resets the machine in order; after a panic it prints none of these. */
const ORDERLY_RESETS = ["reboot: ", "sysrq: Resetting"];

/**
 * Tells whether the guest's kernel panicked, by the end of its console log. A guest can lie, but only about itself.
 * @param fromByte the end of the log when the VMM was started; a log that was rotated since is read from its beginning
 */
export function endsInPanic(consoleLog: string, fromByte = 0): boolean {
  const from = fromByte > sizeOf(consoleLog) ? 0 : fromByte;
  const tail = readTail(consoleLog, PANIC_TAIL_BYTES, from);
  const panic = tail.lastIndexOf(PANIC);
  return panic >= 0 && ORDERLY_RESETS.every((words) => tail.lastIndexOf(words) < panic);
}
