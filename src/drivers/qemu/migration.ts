/** QEMU's migration, to a file and from one. A jailed QEMU may open neither, so one comes by a Unix socket. */
import { chmodSync } from "node:fs";
import { open } from "node:fs/promises";
import { createServer } from "node:net";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { HearthError } from "#base/error.ts";
import { within } from "#drivers/deadline.ts";
import type { MigrationStatus, QmpMonitor } from "#drivers/qemu/qmp.ts";
import { checkSocketPath, removeStaleSocket } from "#host/unix-socket.ts";

/** QEMU's own default would be 128 MiB/s. */
const BANDWIDTH_BYTES_PER_S = 2 ** 40;
/**
 * The rest of the memory is sent with the vCPUs halted as soon as it takes less than this. The least that is not "do
 * not look again".
 */
const DOWNTIME_MS = 1;
const ASK_EVERY_MS = 2;
/** QEMU answers nothing while it writes the last of a VM, or reads one: for as long as the host's disk takes. */
const BUSY_MS = 120_000;
/** Written at once: a call for each piece of 64 KiB takes longer than the bytes. */
const BATCH_BYTES = 1024 * 1024;
/** For what had arrived to be written. */
const HANG_UP_MS = 1_000;

/** Asked after each piece of what arrives, before the next one is read: QEMU waits meanwhile. */
export type OnPiece = () => Promise<void>;

export type Destination = {
  readonly socket: string;
  readonly path: string;
  readonly onPiece?: OnPiece | undefined;
  /** Whether `written` waits until a power cut cannot take it away. */
  readonly durable: boolean;
};

/**
 * Sends all that QEMU would migrate to a new file at `path`. Resolves when QEMU is done, with the vCPUs halted;
 * `written` is awaited for the file. The listening socket is removed in any case.
 * @throws HearthError `snapshot.failed` with QEMU's reason
 */
export async function migrateToFile(
  monitor: QmpMonitor,
  to: Destination,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<{ readonly written: Promise<void> }> {
  checkSocketPath(to.socket);
  removeStaleSocket(to.socket);
  const receiving = await receive(to.socket);
  const written = receiving.arrived.then((socket) => writeFile(socket, to));
  const failure = written.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  try {
    await monitor.send(
      "migrate-set-parameters",
      { "max-bandwidth": BANDWIDTH_BYTES_PER_S, "downtime-limit": DOWNTIME_MS },
      deadlineMs,
    );
    await monitor.send("migrate", { uri: `unix:${to.socket}` }, deadlineMs);
    await Promise.race([untilDone(monitor, signal), failing(written)]);
    return { written };
  } catch (error) {
    await cancel(monitor, deadlineMs);
    // Where we hung up on QEMU, that is all that it can say; why we did says more.
    const ours = await within(failure, HANG_UP_MS);
    throw ours === undefined ? error : ours.error;
  } finally {
    receiving.close();
  }
}

/**
 * Loads what a QEMU that was started with `-incoming defer` has as its stdin: it reads the file itself, which it could
 * not open in its jail. Resolves with the vCPUs halted.
 */
export async function migrateFromStdin(
  monitor: QmpMonitor,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<void> {
  await monitor.send("migrate-incoming", { uri: "fd:0" }, deadlineMs);
  await untilDone(monitor, signal);
}

/**
 * Whether memory that is mapped from a file is left out of what is sent, and expected to be there by who receives:
 * both have to say the same.
 */
export async function leaveOutMemory(monitor: QmpMonitor, state: boolean, deadlineMs: number): Promise<void> {
  const capabilities = [{ capability: "x-ignore-shared", state }] as const;
  await monitor.send("migrate-set-capabilities", { capabilities }, deadlineMs);
}

async function untilDone(monitor: QmpMonitor, signal: AbortSignal): Promise<void> {
  for (;;) {
    const progress = await monitor.send("query-migrate", undefined, BUSY_MS);
    if (progress.status === "completed") return;
    if (progress.status === "failed" || progress.status === "cancelled") throw refused(progress);
    signal.throwIfAborted();
    await sleep(ASK_EVERY_MS);
  }
}

function refused({ status, "error-desc": reason }: MigrationStatus): HearthError {
  return new HearthError("snapshot.failed", "QEMU could not move the VM's memory", {
    cause: new Error(reason ?? `it says ${status}`),
  });
}

async function failing(written: Promise<void>): Promise<never> {
  await written;
  return new Promise(() => {}); // It ends well: QEMU's own word is what counts.
}

/** Whatever state it is in: QEMU takes no new migration before the last one has ended. */
async function cancel(monitor: QmpMonitor, deadlineMs: number): Promise<void> {
  try {
    await monitor.send("migrate_cancel", undefined, deadlineMs);
    for (let waitedMs = 0; waitedMs < deadlineMs; waitedMs += ASK_EVERY_MS) {
      const { status } = await monitor.send("query-migrate", undefined, deadlineMs);
      if (status !== "cancelling" && status !== "active" && status !== "setup") return;
      await sleep(ASK_EVERY_MS);
    }
  } catch {
    // It is gone, or says nothing: why the caller's work has failed says more.
  }
}

type Receiving = { readonly arrived: Promise<Socket>; close(): void };

/** Listens where a QEMU with another uid may connect: its folder lets nobody else through. */
function receive(path: string): Promise<Receiving> {
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<Socket>();
  const server = createServer({ pauseOnConnect: true }, arrive);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      chmodSync(path, 0o666);
      resolve({ arrived, close: () => void server.close(() => removeStaleSocket(path)) });
    });
  });
}

async function writeFile(socket: Socket, { path, onPiece, durable }: Destination): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  let batch: Buffer[] = [];
  let bytes = 0;
  for await (const piece of socket as AsyncIterable<Buffer>) {
    batch.push(piece);
    bytes += piece.length;
    if (bytes >= BATCH_BYTES) {
      await file.writev(batch);
      [batch, bytes] = [[], 0];
    }
    await onPiece?.();
  }
  if (bytes > 0) await file.writev(batch);
  if (durable) await file.sync();
}
