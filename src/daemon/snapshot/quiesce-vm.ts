/** Saving a VM that runs: its processes are held and its vCPUs halted for as long as its disk is looked at. */
import { withCleanUp } from "#base/clean-up.ts";
import { HearthError } from "#base/error.ts";
import type { Attachment } from "#daemon/vm/attachment.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { assertSaves, OTHER_DRIVER } from "#daemon/spec/lacking-features.ts";
import type { SnapshotFiles } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** For processes to stand still: half of it, and the rest for the guest to say so. */
const FREEZE_MS = 10_000;
/** A guest that writes what it has in memory waits for the host's disk. */
const FLUSH_MS = 120_000;
const THAW_MS = 10_000;

/** A VM that runs or is paused, to `work` on. */
export type LiveVm = {
  readonly host: Host;
  readonly vm: VmRecord;
  readonly attachment: Attachment;
};

/** What becomes of a VM when its memory is saved: it goes on as it was, or is left halted for its end. */
export type AfterSave = "resume" | "pause";

/**
 * Saves its memory; `halted` is called while nothing in it moves. One that is to go on does, however this ends.
 * @throws HearthError `snapshot.failed`, `agent.unreachable`
 */
export async function saveMemory(
  live: LiveVm,
  saved: SnapshotFiles,
  onPaused: () => Promise<void>,
  after: AfterSave,
  signal: AbortSignal,
): Promise<void> {
  const { host, vm, attachment } = live;
  const { handle } = attachment;
  const driver = driverOf(host, handle.driver);
  const { snapshotter } = driver;
  if (snapshotter === undefined) throw noSnapshots(handle.driver, undefined);
  await assertSaves(driver, vm, { kind: after === "pause" ? "suspended" : "named" }, signal);
  const paused = vm.state.phase === "paused";
  const early = paused || after === "pause";
  const save = async (): Promise<void> => {
    // What is restored must come back with its processes held, so a guest that stands still moves for a moment.
    if (paused) await driver.resume(handle, signal);
    await attachment.guest(signal); // Before anything is saved.
    const quiesce = (): Promise<void> => freeze(live, false, signal);
    if (early) {
      await quiesce();
      await driver.pause(handle, signal);
    }
    const giveMemoryBase = (): Promise<void> => host.helper.giveMemoryBase(vm.id);
    const hooks = { giveMemoryBase, quiesce: early ? async () => {} : quiesce, onPaused };
    await snapshotter.save(handle, saved, hooks, signal);
  };
  await withCleanUp(save, async () => {
    // A vsock device is reset when it is saved, and its connections do not notice.
    if (handle.agentVsockPort !== undefined) attachment.renewGuest();
    if (!early) await thaw(live);
    else if (after === "resume") await resumeLiveVm(live);
  });
}

/** One that was halted goes on as it was; whose vCPUs stood still before has nothing held, and stands still again. */
export async function resumeLiveVm(live: LiveVm): Promise<void> {
  const { host, vm, attachment } = live;
  const { handle } = attachment;
  const driver = driverOf(host, handle.driver);
  await driver.resume(handle, AbortSignal.timeout(THAW_MS));
  await thaw(live);
  if (vm.state.phase === "paused") await driver.pause(handle, AbortSignal.timeout(THAW_MS));
}

/** The same without memory: what programs have written is on the disk before. */
export async function quiesceForDisk(
  live: LiveVm,
  work: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { host, vm, attachment } = live;
  const { handle } = attachment;
  const driver = driverOf(host, handle.driver);
  // What a paused guest has not written cannot be written now; its file system's journal makes up for it.
  if (vm.state.phase === "paused") return work();
  await assertSaves(driver, vm, { kind: "named", diskOnly: true }, signal);
  const onPaused = async (): Promise<void> => {
    await freeze(live, true, signal);
    await driver.pause(handle, signal);
    await work();
  };
  await withCleanUp(onPaused, () => resumeLiveVm(live));
}

/**
 * After a crash of hearthd: resumes a VM that was being saved, as it was before. An agent that is not heard is no reason
 * to fail, as in `thaw`. Idempotent. A VM that could not be paused again stays paused: `resume` thaws it.
 */
export async function resumeAfterSave(host: Host, vm: VmRecord): Promise<void> {
  const handle = handleOf(vm.state);
  const { phase } = vm.state;
  if (handle === undefined || (phase !== "running" && phase !== "paused")) return;
  const driver = driverOf(host, handle.driver);
  if (!(await driver.recover(handle))) return;
  const signal = AbortSignal.timeout(THAW_MS);
  if (phase === "paused" && !(await driver.features(signal)).pause) {
    const warning = `${vm.name} stays paused: the driver ${driver.name} could not pause it again.`;
    return host.log.child({ vm: vm.id }).event("vm.thaw_warned", { warning });
  }
  await driver.resume(handle, signal);
  try {
    const guest = await host.guests.waitFor(handle, THAW_MS, signal);
    await guest.thaw(host.now(), signal).finally(() => guest.close());
  } catch (error) {
    host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
  } finally {
    if (phase === "paused") await driver.pause(handle, AbortSignal.timeout(THAW_MS));
  }
}

async function freeze({ host, vm, attachment }: LiveVm, flush: boolean, signal: AbortSignal) {
  const warnings = await attachment.ask(
    (guest, inTime) => guest.freeze({ flush, timeoutMs: FREEZE_MS / 2, untilThaw: !flush }, inTime),
    signal,
    flush ? FLUSH_MS : undefined,
  );
  for (const warning of warnings) host.log.child({ vm: vm.id }).event("vm.freeze_warned", { warning });
}

/**
 * Thaws the guest. It does not thaw by itself while memory is saved, so an agent that is not heard now is told as soon
 * as it is connected again; that is no reason to fail.
 */
async function thaw({ host, vm, attachment }: LiveVm): Promise<void> {
  const thawOn = async (guest: Guest, inTime: AbortSignal): Promise<void> => {
    const warnings = await guest.thaw(host.now(), inTime);
    for (const warning of warnings) host.log.child({ vm: vm.id }).event("vm.thaw_warned", { warning });
  };
  const { signal } = new AbortController(); // Also for a caller that has left.
  try {
    await attachment.ask(thawOn, signal);
  } catch (error) {
    host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
    attachment.owe(thawOn);
    attachment.renewGuest();
  }
}

/** What this driver says to who wants to save or restore with it. */
export function noSnapshots(driver: string, reason: string | undefined): HearthError {
  return new HearthError("feature.missing", `The driver ${driver} cannot save VMs with their memory.`, {
    hint: reason ?? OTHER_DRIVER,
  });
}

/** Undefined when it does not run. */
export function runningHandle(vm: VmRecord): VmHandle | undefined {
  return vm.state.phase === "running" || vm.state.phase === "paused" ? vm.state.handle : undefined;
}
