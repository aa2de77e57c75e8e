/** QEMU's migration, to a file and from one. A jailed QEMU may open neither, so one comes by a Unix socket. */
import { setTimeout as sleep } from "node:timers/promises";
import { HearthError, toError } from "#base/error.ts";
import { unlessAborted, within } from "#base/deadline.ts";
import type { MigrationStatus, QmpMonitor } from "#drivers/qemu/qmp.ts";
import { StreamReceiver } from "#drivers/qemu/receive-stream.ts";
import type { StreamTarget } from "#drivers/qemu/receive-stream.ts";

/** QEMU's own default would be 128 MiB/s. */
const BANDWIDTH_BYTES_PER_S = 2 ** 40;
/**
 * QEMU halts the vCPUs for the rest of the memory as soon as it takes less than this: the least with which it looks
 * again what a running guest has changed, and what stands for "do not look again".
 */
const DOWNTIME_MS = { looks: 1, sendsOnce: 0 } as const;
/** A guest waits for the end. */
const ASK_EVERY_MS = 2;
/** No guest waits: QEMU, which answers between two pieces that it sends, is left alone. */
const ASK_CALMLY_MS = 50;
/** QEMU answers nothing while it writes the last of a VM, or reads one: for as long as the host's disk takes. */
const BUSY_MS = 120_000;
/** For what had arrived to be written. */
const HANG_UP_MS = 1_000;

export type Destination = StreamTarget & {
  readonly socket: string;
  /** Whether the guest runs while its memory is sent, so that the end is not urgent. Left out: it is paused. */
  readonly guestRuns?: () => boolean;
  /**
   * The memory is sent once while the guest runs, and what has changed since then when it is paused. Called when QEMU
   * follows what changes, and not by the sender of a guest that is paused.
   */
  readonly onFollowed?: () => Promise<void>;
};

/** What `migrateToFile` leaves to be waited for. */
export type Written = {
  /** Resolves when the file has everything, and bounds the time that QEMU takes to hang up. */
  written(): Promise<void>;
};

/**
 * Sends all that QEMU would migrate to a new file at `to.path`. Resolves when QEMU is done, with the vCPUs halted;
 * `written` is awaited for the file. The listening socket is removed in any case.
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
    // Where we hung up on QEMU, that is all that it can say; why we did says more.
    const ours = signal.aborted ? undefined : await within(failure, HANG_UP_MS);
    receiver.close(toError(error));
    throw ours === undefined ? error : ours.error;
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

/** A QEMU that is not done sends, or it hangs. */
function checkSends(receiver: StreamReceiver): void {
  if (receiver.silentMs < BUSY_MS) return;
  throw new HearthError("vmm.unresponsive", `QEMU has sent nothing of the VM's memory for ${BUSY_MS} ms.`);
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
  await untilDone(monitor, () => ASK_EVERY_MS, signal);
}

/**
 * Whether memory that is mapped from a file is left out of what is sent, and expected to be there by who receives:
 * both have to say the same.
 */
export async function setIgnoreShared(
  monitor: QmpMonitor,
  state: boolean,
  deadlineMs: number,
): Promise<void> {
  const capabilities = [{ capability: "x-ignore-shared", state }] as const;
  await monitor.send("migrate-set-capabilities", { capabilities }, deadlineMs);
}

/** @param check is called each time that QEMU is not done yet, and says in how many milliseconds to ask again */
async function untilDone(monitor: QmpMonitor, check: () => number, signal: AbortSignal): Promise<void> {
  for (;;) {
    const progress = await unlessAborted(monitor.send("query-migrate", undefined, BUSY_MS), signal);
    if (progress.status === "completed") return;
    if (progress.status === "failed" || progress.status === "cancelled") throw refused(progress);
    await sleep(check());
  }
}

/** QEMU sets up how it follows what a guest changes before it sends the first page, and says so by its status. */
async function untilFollowed(monitor: QmpMonitor, check: () => void, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { status } = await unlessAborted(monitor.send("query-migrate", undefined, BUSY_MS), signal);
    if (status !== undefined && status !== "none" && status !== "setup") return;
    check();
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
  const lateMs = performance.now() + deadlineMs;
  try {
    await monitor.send("migrate_cancel", undefined, deadlineMs);
    while (performance.now() < lateMs) {
      const { status } = await monitor.send("query-migrate", undefined, deadlineMs);
      if (status !== "cancelling" && status !== "active" && status !== "setup") return;
      await sleep(ASK_EVERY_MS);
    }
  } catch {
    // It is gone, or says nothing: why the caller's work has failed says more.
  }
}
