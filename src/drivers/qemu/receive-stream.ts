/**
 * Receives the stream of a VM that QEMU saves, over a Unix socket, into a new file. QEMU is not trusted: it gets one
 * connection, a number of bytes, and a time in which it may send nothing; beyond these the connection is destroyed.
 */
import { chmodSync } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { HearthError } from "#base/error.ts";
import { formatSizeRounded, MIB } from "#base/sizes.ts";
import { within } from "#base/deadline.ts";
import { checkSocketPath, removeStaleSocket } from "#host/unix-socket.ts";

export type StreamTarget = {
  /** The path of the file, which does not exist yet. */
  readonly path: string;
  /** True when `written` is to wait until the file is synced. */
  readonly durable: boolean;
  /** The most bytes that a sender may send; then it is cut off. */
  readonly maxBytes: number;
  /** Called before each such number of bytes is written to `path`: throws when the host has no room for them. */
  readonly checkRoom: (path: string, bytes: number) => Promise<void>;
  /** Called after each piece with the number of bytes so far, before the next piece is read: QEMU waits meanwhile. */
  readonly onPiece?: ((bytes: number) => Promise<void>) | undefined;
  /** Decides what is written. `maxBytes` limits what arrives, not what is written. */
  readonly filter?: StreamFilter | undefined;
};

export type StreamFilter = {
  /** Returns what to write of this piece, and of the unfinished rest of earlier pieces. */
  filter(piece: Buffer): Buffer;
  /** Returns the unfinished rest when the stream is over. */
  end(): Buffer;
};

/** The bytes that are written at once: a call for each piece of 64 KiB takes longer than the bytes. */
const BATCH_BYTES = MIB;
/** The bytes between two checks of the room on the host. */
const ROOM_BYTES = 64 * MIB;

/** Receives one stream from `listen` until `end` or `close`. The file stays on failure; the caller removes it. */
export class StreamReceiver {
  /** Resolves when all is in the file, rejects with the reason why it is not. Callers need not await it. */
  readonly written: Promise<void>;
  readonly #server: Server;
  readonly #socketPath: string;
  readonly #arrived = Promise.withResolvers<Socket>();
  #socket: Socket | undefined;
  #bytes = 0;
  /** The time since when nothing has arrived although hearthd reads; undefined while hearthd is busy itself. */
  #quietSinceMs: number | undefined = performance.now();

  private constructor(socketPath: string, to: StreamTarget) {
    this.#socketPath = socketPath;
    // Nothing is read before the file exists.
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#take(socket));
    this.written = this.#arrived.promise.then((socket) => this.#write(socket, to));
    this.written.catch(() => {}); // A caller that awaits it gets the error.
  }

  /** Listens where a QEMU with another uid may connect: the directory lets no one else through. */
  static async listen(socketPath: string, to: StreamTarget): Promise<StreamReceiver> {
    checkSocketPath(socketPath);
    removeStaleSocket(socketPath);
    const receiver = new StreamReceiver(socketPath, to);
    await receiver.#listen();
    return receiver;
  }

  /** The time since QEMU has sent something, as long as hearthd waits for it. */
  get silentMs(): number {
    return this.#quietSinceMs === undefined ? 0 : performance.now() - this.#quietSinceMs;
  }

  /**
   * Waits for `written` when QEMU says that it has sent everything: it only has to close the connection.
   * @throws HearthError `vmm.unresponsive` when it sends nothing for `silenceMs` and does not close, and what `written`
   * throws
   */
  async end(silenceMs: number): Promise<void> {
    const done = this.written.then(() => true);
    while ((await within(done, silenceMs)) === undefined) {
      if (this.silentMs < silenceMs) continue;
      this.close(
        new HearthError(
          "vmm.unresponsive",
          `QEMU has saved the VM, but did not close its connection within ${silenceMs} ms.`,
        ),
      );
    }
  }

  /** Ends the connection for `reason`, unless everything is in the file. Idempotent. */
  close(reason: Error): void {
    this.#stopListening();
    this.#arrived.reject(reason);
    this.#socket?.destroy(reason);
  }

  #listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      // The handler stays: a connection that cannot be accepted later is no loss.
      this.#server.on("error", reject);
      this.#server.listen(this.#socketPath, () => {
        chmodSync(this.#socketPath, 0o666);
        resolve();
      });
    });
  }

  /** Takes the first connection, which is QEMU's. Further connections are closed. */
  #take(socket: Socket): void {
    // An error without a handler would end hearthd: there is no reader before the file exists, nor after the last
    // piece. Reading reports the error.
    socket.on("error", () => {});
    this.#stopListening();
    if (this.#socket !== undefined) return void socket.destroy();
    this.#socket = socket;
    this.#arrived.resolve(socket);
  }

  #stopListening(): void {
    if (!this.#server.listening) return;
    this.#server.close();
    removeStaleSocket(this.#socketPath);
  }

  async #write(socket: Socket, to: StreamTarget): Promise<void> {
    await using file = await open(to.path, "wx", 0o600);
    const batch = new Batch(file, to);
    this.#quietSinceMs = performance.now();
    for await (const piece of socket as AsyncIterable<Buffer>) {
      this.#quietSinceMs = undefined;
      this.#bytes += piece.length;
      if (this.#bytes > to.maxBytes) throw tooMuch(to.maxBytes);
      await batch.add(to.filter?.filter(piece) ?? piece);
      await to.onPiece?.(this.#bytes);
      this.#quietSinceMs = performance.now();
    }
    this.#quietSinceMs = undefined;
    if (to.filter !== undefined) await batch.add(to.filter.end());
    await batch.flush();
    if (to.durable) await file.sync();
  }
}

/** Pieces that are written together. */
class Batch {
  readonly #file: FileHandle;
  readonly #to: StreamTarget;
  #pieces: Buffer[] = [];
  #bytes = 0;
  /** The room on the host that was checked and not used yet. */
  #roomBytes = 0;

  constructor(file: FileHandle, to: StreamTarget) {
    this.#file = file;
    this.#to = to;
  }

  async add(piece: Buffer): Promise<void> {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    if (this.#bytes >= BATCH_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#bytes === 0) return;
    if (this.#roomBytes < this.#bytes) {
      await this.#to.checkRoom(this.#to.path, ROOM_BYTES);
      this.#roomBytes = ROOM_BYTES;
    }
    this.#roomBytes -= this.#bytes;
    const pieces = this.#pieces;
    [this.#pieces, this.#bytes] = [[], 0];
    await this.#file.writev(pieces);
  }
}

function tooMuch(maxBytes: number): HearthError {
  const text = `Cannot save the VM: QEMU has sent more than ${formatSizeRounded(maxBytes)}, more than a VM of this size has.`;
  return new HearthError("snapshot.failed", text, {
    hint: "Its QEMU may be compromised: stop the VM with `hearth kill`.",
  });
}
