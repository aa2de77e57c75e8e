/**
 * Migrates a QEMU to a file, and from one. A jailed QEMU may open no files: it sends to a Unix socket, and loads from
 * its stdin.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { HearthError, toError } from "#base/error.ts";
import { unlessAborted, within } from "#base/deadline.ts";
import type { MigrationStatus, QmpMonitor } from "#drivers/qemu/qmp.ts";
import { StreamReceiver } from "#drivers/qemu/receive-stream.ts";
import type { StreamTarget } from "#drivers/qemu/receive-stream.ts";

/** QEMU's default is 128 MiB/s. */
const BANDWIDTH_BYTES_PER_S = 2 ** 40;
/**
 * The expected downtime below which QEMU pauses the vCPUs and sends the rest of the memory. `looks` is the least with
 * which it checks again what a running guest has changed; with `sendsOnce` it does not check again.
 */
const DOWNTIME_MS = { looks: 1, sendsOnce: 0 } as const;
/** The interval of questions while a paused guest waits for the end. */
const ASK_EVERY_MS = 2;
/** The interval while the guest runs: QEMU answers only between two pieces that it sends. */
const ASK_CALMLY_MS = 50;
/**
 * The longest silence of a QEMU that writes the last of a VM, or reads one: it answers nothing for as long as the
 * host's disk takes.
 */
const BUSY_MS = 120_000;
/** The time for bytes that have arrived to be written. */
const HANG_UP_MS = 1_000;

export type Destination = StreamTarget & {
  readonly socket: string;
  /**
   * Tells whether the guest runs while its memory is sent, so that hearthd asks less often. Undefined: it is paused.
   */
  readonly guestRuns?: () => boolean;
  /**
   * Called when QEMU follows changes. The memory is then sent once while the guest runs, and what has changed since
   * when it is paused. Undefined: what a running guest changes is sent again, round after round.
   */
  readonly onFollowed?: () => Promise<void>;
};

/** The rest of `migrateToFile`, which the caller waits for. */
export type Written = {
  /** Resolves when everything is in the file. Limits the time that QEMU takes to close the connection. */
  written(): Promise<void>;
};

/**
 * Sends everything that QEMU migrates to a new file at `to.path`. Resolves when QEMU is done, with paused vCPUs; await
 * `written` for the file. The listening socket is removed in any case.
 * @throws HearthError `snapshot.failed` with QEMU's reason, and what `to.checkRoom` throws
 */
export async function migrateToFile(
  monitor: QmpMonitor,
  to: Destination,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Written> {
  const receiver = await StreamReceiver.listen(to.socket, to);
  const failure = receiver.written.then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  try {
    await monitor.send(
      "migrate-set-parameters",
      {
        "max-bandwidth": BANDWIDTH_BYTES_PER_S,
        "downtime-limit": to.onFollowed === undefined ? DOWNTIME_MS.looks : DOWNTIME_MS.sendsOnce,
      },
      deadlineMs,
    );
    await monitor.send("migrate", { uri: `unix:${to.socket}` }, deadlineMs);
    const check = (): number => {
      checkSends(receiver);
      return to.guestRuns?.() === true ? ASK_CALMLY_MS : ASK_EVERY_MS;
    };
    const send = async (): Promise<void> => {
      if (to.onFollowed !== undefined) {
        await untilFollowed(monitor, () => checkSends(receiver), signal);
        await to.onFollowed();
      }
      await untilDone(monitor, check, signal);
    };
    await Promise.race([send(), failing(receiver.written)]);
    return { written: () => endOf(receiver, deadlineMs, signal) };
  } catch (error) {
    await cancel(monitor, deadlineMs);
    // Where the receiver closed the connection, QEMU can only report that; the receiver knows why.
    const closeReason = signal.aborted ? undefined : await within(failure, HANG_UP_MS);
    receiver.close(toError(error));
    throw closeReason === undefined ? error : closeReason.error;
  }
}

async function endOf(receiver: StreamReceiver, silenceMs: number, signal: AbortSignal): Promise<void> {
  try {
    await unlessAborted(receiver.end(silenceMs), signal);
  } catch (error) {
    receiver.close(toError(error));
    throw error;
  }
}

/** Throws when a QEMU that is not done has sent nothing for too long: it hangs. */
function checkSends(receiver: StreamReceiver): void {
  if (receiver.silentMs < BUSY_MS) return;
  throw new HearthError("vmm.unresponsive", `QEMU has sent no guest memory for ${BUSY_MS} ms.`);
}

/**
 * Loads the file that a QEMU started with `-incoming defer` has as its stdin: QEMU could not open it in its jail.
 * Resolves with paused vCPUs.
 */
export async function migrateFromStdin(
  monitor: QmpMonitor,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<void> {
  await monitor.send("migrate-incoming", { uri: "fd:0" }, deadlineMs);
  await untilDone(monitor, () => ASK_EVERY_MS, signal);
}

/**
 * Sets the migration capability `x-ignore-shared`: memory that is mapped from a file is not sent. Sender and receiver
 * must agree.
 */
export async function setIgnoreShared(
  monitor: QmpMonitor,
  state: boolean,
  deadlineMs: number,
): Promise<void> {
  const capabilities = [{ capability: "x-ignore-shared", state }] as const;
  await monitor.send("migrate-set-capabilities", { capabilities }, deadlineMs);
}

/**
 * Waits until the migration is complete.
 * @param check called each time that QEMU is not done; returns in how many milliseconds to ask again
 */
async function untilDone(monitor: QmpMonitor, check: () => number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const progress = await unlessAborted(monitor.send("query-migrate", undefined, BUSY_MS), signal);
    if (progress.status === "completed") return;
    if (progress.status === "failed" || progress.status === "cancelled") throw refused(progress);
    await sleep(check());
  }
}

/**
 * Waits until QEMU follows what the guest changes: it sets that up before it sends the first page, and its status says
 * so.
 */
async function untilFollowed(monitor: QmpMonitor, check: () => void, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { status } = await unlessAborted(monitor.send("query-migrate", undefined, BUSY_MS), signal);
    if (status !== undefined && status !== "none" && status !== "setup") return;
    check();
    await sleep(ASK_EVERY_MS);
  }
}

function refused({ status, "error-desc": reason }: MigrationStatus): HearthError {
  return new HearthError("snapshot.failed", "QEMU could not transfer the guest memory", {
    cause: new Error(reason ?? `its status is ${status}`),
  });
}

async function failing(written: Promise<void>): Promise<never> {
  await written;
  return new Promise(() => {}); // A stream that ends well decides nothing: QEMU's status does.
}

/** Cancels the migration in whatever state it is: QEMU starts no new one before the last has ended. */
async function cancel(monitor: QmpMonitor, deadlineMs: number): Promise<void> {
  const lateMs = performance.now() + deadlineMs;
  try {
    await monitor.send("migrate_cancel", undefined, deadlineMs);
    while (performance.now() < lateMs) {
      const { status } = await monitor.send("query-migrate", undefined, deadlineMs);
      if (status !== "cancelling" && status !== "active" && status !== "setup") return;
      await sleep(ASK_EVERY_MS);
    }
  } catch {
    // QEMU has ended or does not answer: the error of the caller's work says more.
  }
}
