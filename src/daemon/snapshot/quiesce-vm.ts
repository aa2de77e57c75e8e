/**
 * Saves a VM that runs. To save memory and disk:
 *
 * 1. Freeze the guest's processes. They are frozen in the memory file, too: a restored guest gets its identity before
 *    it runs.
 * 2. Pause the vCPUs, and save the memory (with a VM that is to be resumed, the driver does both when little is left to
 *    save).
 * 3. Save the disk.
 * 4. Resume the vCPUs, and then thaw the processes. A VM that is suspended stays paused and frozen, for its VMM to end.
 *
 * A paused VM is resumed first, for a moment, so that its agent can freeze the processes.
 */
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

/** The limit for freezing: half of it for the processes to stop, and the rest for the guest to answer. */
const FREEZE_MS = 10_000;
/** The limit with a flush, in which a guest writes its caches to the host's disk. */
const FLUSH_MS = 120_000;
const THAW_MS = 10_000;

/** A VM that runs or is paused, with its VMM session. */
export type LiveVm = {
  readonly host: Host;
  readonly vm: VmRecord;
  readonly attachment: Attachment;
};

/** The state of a VM after its memory was saved: resumed as it was, or paused for the end of its VMM. */
export type AfterSave = "resume" | "pause";

/**
 * Saves the guest memory. Calls `onPaused` while the vCPUs are paused. With `after: "resume"`, the VM is resumed even
 * if the save fails.
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
    // A snapshot must contain frozen processes. A paused guest therefore runs briefly so that the agent can freeze
    // them.
    if (paused) await driver.resume(handle, signal);
    await attachment.guest(signal); // Fails before anything is saved, if the agent cannot be reached.
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

/**
 * Resumes a VM after a save: first the vCPUs, then the guest's processes. A VM that was paused before the save is
 * paused again.
 */
export async function resumeLiveVm(live: LiveVm): Promise<void> {
  const { host, vm, attachment } = live;
  const { handle } = attachment;
  const driver = driverOf(host, handle.driver);
  await driver.resume(handle, AbortSignal.timeout(THAW_MS));
  await thaw(live);
  if (vm.state.phase === "paused") await driver.pause(handle, AbortSignal.timeout(THAW_MS));
}

/**
 * Runs `work` while the vCPUs are paused, for a snapshot of the disk alone: before that, the guest's programs are
 * frozen, and what they have written is flushed to the disk.
 */
export async function quiesceForDisk(
  live: LiveVm,
  work: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { host, vm, attachment } = live;
  const { handle } = attachment;
  const driver = driverOf(host, handle.driver);
  // A paused guest cannot flush. The journal of its file system makes up for that.
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
 * Resumes a VM, after a crash of hearthd, that was being saved; it is then as it was before. An agent that cannot be
 * reached is logged, as in `thaw`. A VM that could not be paused again stays paused, and is thawed by `resume`.
 * Idempotent.
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
 * Thaws the guest. It does not thaw by itself while memory is saved, so if the agent cannot be reached, it is asked
 * again as soon as it is connected. That is logged, and not thrown.
 */
async function thaw({ host, vm, attachment }: LiveVm): Promise<void> {
  const thawOn = async (guest: Guest, inTime: AbortSignal): Promise<void> => {
    const warnings = await guest.thaw(host.now(), inTime);
    for (const warning of warnings) host.log.child({ vm: vm.id }).event("vm.thaw_warned", { warning });
  };
  const { signal } = new AbortController(); // The guest is thawed also if the client has left.
  try {
    await attachment.ask(thawOn, signal);
  } catch (error) {
    host.log.child({ vm: vm.id }).event("agent.disconnected", { error });
    attachment.runOnConnect(thawOn);
    attachment.renewGuest();
  }
}

/** Returns the error for a driver that can neither save nor restore memory. */
export function noSnapshots(driver: string, reason: string | undefined): HearthError {
  return new HearthError("feature.missing", `The driver ${driver} cannot save the memory of VMs.`, {
    hint: reason ?? OTHER_DRIVER,
  });
}

/** Returns the VMM's handle, or undefined if the VM does not run. */
export function runningHandle(vm: VmRecord): VmHandle | undefined {
  return vm.state.phase === "running" || vm.state.phase === "paused" ? vm.state.handle : undefined;
}
