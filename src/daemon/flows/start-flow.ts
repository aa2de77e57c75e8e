/**
 * Starts a VM, by a boot or by a restore:
 *
 * 1. Acquire what the VM needs of the host. A VMM that an earlier start has left is ended first.
 * 2. Make the disk: keep the VM's own, put an overlay on it, copy or layer that of a snapshot, or create an empty one.
 * 3. Start the VMM and wait for the agent. With a snapshot, its memory is restored, and the guest gets its identity. A
 *    template that cannot be restored is deleted, and the VM boots. A guest that boots with systemd gets its identity
 *    before its init starts.
 * 4. Give a guest that booted its identity: hostname, machine id, entropy, clock, network, volumes.
 * 5. Commit: one transaction stores the state `running` with the VMM's handle, and ends the journal.
 *
 * If a step fails, or hearthd crashes before the commit, the steps are undone, the last one first: the VMM is ended, a
 * disk that was made for this start is removed, and the host's resources are released.
 */
import { HearthError, invariant, toHearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import { bootPlan, guestIdentity } from "#daemon/vm/boot-plan.ts";
import { configureGuest } from "#daemon/vm/guest-clock.ts";
import { acquireHostResources, acquireWithDisk, releaseHostResources } from "#daemon/vm/host-resources.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import type { Attachment } from "#daemon/vm/attachment.ts";
import { logWarnings } from "#daemon/vm/guest-warnings.ts";
import type { Host } from "#daemon/host.ts";
import type { Configured } from "#guest/agent-client.ts";
import { consoleEnd } from "#daemon/view/log-tail.ts";
import type { MemorySource, StartSource } from "#daemon/vm/start-source.ts";
import { checkParts } from "#daemon/snapshot/snapshot-files.ts";
import { diskFrom } from "#daemon/vm/boot-disks.ts";
import { snapshotPaths, vmPaths } from "#daemon/store/paths.ts";
import type { BootPlan, VmDriver } from "#drivers/vm-driver.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { StageClock } from "#model/start-stage.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

/** The input of the undo: all that is known after a crash. */
export type StartLeft = {
  readonly host: Host;
  readonly id: VmId;
  /** True if the disk is made by this start. It is removed when the start fails. */
  readonly diskIsNew?: boolean | undefined;
  /** Missing after a crash. */
  readonly start?: Start | undefined;
};

/** The input of the steps. */
export type StartContext = StartLeft & { readonly start: Start };

/** The part of the start that is journaled. */
export type StartPlan = {
  readonly back: VmState;
  readonly diskIsNew: boolean;
  /** The snapshot that the VM is to begin as. It stays in the VM's row until the start has succeeded. */
  readonly sourceSnapshot?: SnapshotId | undefined;
  /** True if the disk's earlier content was to be discarded. */
  readonly fresh?: boolean | undefined;
};

export type Start = {
  readonly vm: VmRecord;
  readonly driver: VmDriver;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
  readonly attach: (handle: VmHandle) => Attachment;
  /** Stores that the VM runs. The last step. */
  readonly commit: (attachment: Attachment) => void;
  readonly clock: StageClock;
  /** The snapshot to restore; undefined for a boot. */
  memory: MemorySource | undefined;
  disk: StartSource["disk"];
  /** Deletes a template that could not be restored, so that no other start tries it. */
  readonly discardTemplate: (template: SnapshotRecord) => Promise<void>;
  /** The session of the VMM that was started last. */
  attachment?: Attachment;
  /** True once the guest may have written to its disk. */
  mayHaveRun?: boolean;
  /** True for a guest that began with a snapshot's disk and got this VM's identity before its init started. */
  hasOwnIdentity?: boolean;
  /** Parts of its identity that the guest could not set. */
  guestWarnings?: readonly string[];
  /** A template that could not be restored. */
  failedTemplate?: SnapshotRecord;
};

const KILL_DEADLINE_MS = 10_000;
/** Measured: 20 ms with KVM, seconds in an emulated guest on a busy host. */
const IDENTITY_DEADLINE_MS = 60_000;
/**
 * The first restore attempt gets this part of the agent deadline: a restored guest answers much faster than one that
 * boots.
 */
const FIRST_TRY_PART = 3;
/** Lines of the console in the error of a boot that failed. */
const CONSOLE_LINES = 12;

export const START_VM: Flow<StartContext, StartLeft> = {
  kind: "start",
  afterCrash: "unwind",
  steps: [
    {
      name: "acquire host resources",
      run: async ({ host, id, start }) => {
        // Two VMMs on one disk would destroy it: a VMM that an earlier start has left ends before anything is made.
        await endVmm(host, id);
        await host.files.makeDir(vmPaths(host.dirs, id).saveDir); // Not undone: it stays with the VM's directory.
        await acquireHostResources(host, start);
        start.clock.end("host");
      },
      undo: ({ host, id }) => releaseHostResources(host, id),
    },
    {
      name: "make the disk",
      run: ({ host, start }) => makeDisk(host, start),
      undo: async ({ host, id, diskIsNew }) => {
        if (diskIsNew === true) await host.disks.remove(vmPaths(host.dirs, id).stateDir);
      },
    },
    {
      name: "boot",
      run: ({ host, start }) => bringUp(host, start),
      undo: async ({ host, id, start }) => {
        const { stateDir, memoryCopy } = vmPaths(host.dirs, id);
        await endVmm(host, id, start);
        await host.files.removeTree(stateDir, memoryCopy);
      },
    },
    {
      name: "configure the guest",
      // Restored guests were configured in the step before. This one configures guests that booted, including fallbacks
      // from a template.
      run: async ({ host, start }) => {
        const { memory, disk } = start;
        const isAnother = typeof disk === "object" && start.hasOwnIdentity !== true;
        if (memory === undefined) await giveIdentity(host, start, isAnother);
      },
    },
    {
      name: "commit",
      endsJournal: true,
      run: async ({ start: { attachment, commit } }) => {
        if (attachment) commit(attachment);
      },
    },
  ],
};

async function makeDisk(host: Host, start: Start): Promise<void> {
  const { memory, signal } = start;
  try {
    await makeDiskOf(host, start);
  } catch (error) {
    if (memory === undefined || memory.required || signal.aborted) throw error;
    await fallBackToBoot(host, start, memory.snapshot, error); // The template may have been deleted a moment ago.
  }
  start.clock.end("disk");
}

async function makeDiskOf(host: Host, { vm, driver, disk, signal }: Start): Promise<void> {
  const { stateDir } = vmPaths(host.dirs, vm.id);
  if (disk === "keep") {
    await host.disks.repair(stateDir, signal);
    return flattenUnlessLayered(host, stateDir, driver, signal);
  }
  if (disk === "overlay") await host.disks.overlay(stateDir, signal);
  else if (disk === "empty") await host.disks.create(stateDir, vm.spec.diskBytes, signal);
  else {
    await diskFrom(host, stateDir, disk, signal);
    await flattenUnlessLayered(host, stateDir, driver, signal); // A driver with layered disks may have saved it.
  }
}

async function flattenUnlessLayered(
  host: Host,
  stateDir: string,
  driver: VmDriver,
  signal: AbortSignal,
): Promise<void> {
  const { layeredDisks } = await driver.features(signal);
  if (!layeredDisks) await host.disks.flatten(stateDir, signal);
}

/**
 * Sets the guest's identity. A restored guest must not run without it: the caller ends the VMM on an error.
 * @throws HearthError `vm.identity_failed`
 */
async function giveIdentity(host: Host, start: Start, restored: boolean): Promise<Configured | undefined> {
  const { vm, attachment, signal } = start;
  const inTime = AbortSignal.any([signal, AbortSignal.timeout(IDENTITY_DEADLINE_MS)]);
  const guest = await attachment?.guest(inTime);
  if (attachment === undefined || guest === undefined) return undefined;
  try {
    const identity = await guestIdentity(host, vm, attachment.handle, restored, signal);
    const configured = await configureGuest(host, guest, identity, inTime);
    logWarnings(host, vm.id, configured.warnings);
    start.guestWarnings = configured.warnings;
    start.clock.end("identity");
    return configured;
  } catch (error) {
    throw identityError(vm, toHearthError(error));
  }
}

function identityError(vm: VmRecord, failure: HearthError): HearthError {
  if (failure.code !== "vm.identity_failed") return failure;
  const asItWas =
    vm.state.phase === "suspended" ? "its memory and its disk are kept" : "the snapshot is kept";
  return new HearthError("vm.identity_failed", `Cannot start ${vm.name}. ${failure.message}`, {
    hint: `The guest has not run, and ${asItWas}. Try again, and see \`hearth logs ${vm.name}\` for its console.`,
    cause: failure.cause,
  });
}

/**
 * Restores or boots the VM, and waits until its agent answers.
 *
 * A template that cannot be restored is deleted, and the VM boots instead. If the agent does not answer, the VMM is
 * ended and started again: for a boot as often as the driver allows, for a restore once, and not when the VM continues
 * on its own disk, which it may have written to. (Seen with Firecracker on a busy host with emulated KVM: in two of
 * some dozens of restores, no answer for 90 seconds; the same snapshot then ran in another VM.)
 */
async function bringUp(host: Host, start: Start): Promise<void> {
  const { driver, vm, signal } = start;
  const { agentDeadlineMs, bootRetries } = await driver.features(signal);
  for (let attempt = 1; ; attempt++) {
    const { memory, disk } = start;
    const restoreRetries = memory?.required === true && typeof disk === "object" ? 1 : 0;
    const mayRetry = attempt <= (memory === undefined ? bootRetries : restoreRetries);
    try {
      if (memory === undefined) return await bootOnce(host, start);
      const agentMs = mayRetry ? Math.ceil(agentDeadlineMs / FIRST_TRY_PART) : agentDeadlineMs;
      return await restoreOnce(host, start, memory.snapshot, agentMs);
    } catch (error) {
      const failure = memory === undefined ? bootError(host, vm, toHearthError(error)) : error;
      if (signal.aborted) throw failure;
      if (memory?.required === false) {
        await fallBackToBoot(host, start, memory.snapshot, error);
        attempt = 0; // The boot begins with its first attempt.
      } else if (mayRetry && toHearthError(error).code === "agent.unreachable") {
        await clearForRetry(host, start, error);
      } else throw failure;
    }
  }
}

async function restoreOnce(host: Host, start: Start, snapshot: SnapshotRecord, agentMs: number) {
  const { driver, onProgress, signal } = start;
  const { snapshotter } = driver;
  invariant(snapshotter, "a driver that has snapshots can restore them");
  await checkParts(host, snapshot, signal);
  const run = async (plan: BootPlan): Promise<VmHandle> => {
    const saved = snapshotPaths(host.dirs, snapshot.id);
    return { ...(await snapshotter.restore(plan, saved, onProgress, signal)), snapshot: snapshot.id };
  };
  await startVmm(host, start, "restoring", agentMs, run);
  await giveIdentity(host, start, true);
}

/** Boots the VM, and starts the guest's init. */
async function bootOnce(host: Host, start: Start): Promise<void> {
  const { driver, onProgress, signal } = start;
  const { agentDeadlineMs } = await driver.features(signal);
  const run = (plan: BootPlan): Promise<VmHandle> => driver.boot(plan, onProgress, signal);
  await startVmm(host, start, "starting the VMM", agentDeadlineMs, run);
  await startInit(host, start);
}

/**
 * Ends the VMM of a guest that did not answer. Before a restore is tried again, the disk is made from the snapshot
 * again.
 */
async function clearForRetry(host: Host, start: Start, error: unknown): Promise<void> {
  const { vm, memory, onProgress } = start;
  const log = host.log.child({ vm: vm.id });
  if (memory === undefined) log.event("vm.boot_retried", { error });
  else log.event("vm.restore_retried", { snapshot: memory.snapshot.id, error });
  const what = memory === undefined ? "booting" : "restoring";
  onProgress({ stage: "boot", text: `the guest hung; ${what} again` });
  await endVmm(host, vm.id, start);
  if (memory !== undefined) await makeDiskOf(host, start);
}

/** Deletes the template that failed, and makes an empty disk for a boot. */
async function fallBackToBoot(host: Host, start: Start, template: SnapshotRecord, error: unknown) {
  const { vm, signal } = start;
  host.log.child({ vm: vm.id }).event("vm.restore_failed", { snapshot: template.id, error });
  start.onProgress({ stage: "boot", text: "the template does not work; booting instead" });
  await endVmm(host, vm.id, start);
  // A driver that copies the memory file may find no room for it. That is not the template's fault.
  if (toHearthError(error).code !== "host.disk_full") {
    await start.discardTemplate(template);
    start.failedTemplate = template;
  }
  start.memory = undefined;
  start.disk = "empty";
  await host.disks.create(vmPaths(host.dirs, vm.id).stateDir, vm.spec.diskBytes, signal);
}

/** Starts a VMM, and waits until the guest's agent answers or the VMM ends. */
async function startVmm(
  host: Host,
  start: Start,
  text: string,
  agentMs: number,
  run: (plan: BootPlan) => Promise<VmHandle>,
): Promise<void> {
  const { driver, vm, onProgress, signal } = start;
  const features = await driver.features(signal);
  const plan = await bootPlan(host, vm, features, signal);
  await acquireWithDisk(host, start);
  onProgress({ stage: "boot", text });
  start.mayHaveRun = true;
  const attachment = start.attach(await run(plan));
  start.attachment = attachment;
  start.clock.end("vmm");
  onProgress({ stage: "boot", text: "waiting for the guest" });
  await awaitGuest(host, attachment, agentMs, signal);
  start.clock.end("guest");
}

/**
 * Starts the guest's init, if it has one. The agent answers before that init runs, and starts it once the guest has its
 * identity and its volumes, so that no service runs without them. The agent that answers next is one of init's
 * services. An agent of an older hearthd is that from the start.
 */
async function startInit(host: Host, start: Start): Promise<void> {
  const { vm, driver, disk, attachment, onProgress, signal } = start;
  if (vm.spec.init !== "systemd" || attachment === undefined) return;
  const { agentDeadlineMs } = await driver.features(signal);
  const configured = await giveIdentity(host, start, typeof disk === "object");
  if (configured?.initFollows !== true) return;
  start.hasOwnIdentity = true;
  onProgress({ stage: "boot", text: "starting the init of the guest" });
  attachment.releaseGuest();
  await awaitGuest(host, attachment, agentDeadlineMs, signal);
  start.clock.end("init");
}

async function awaitGuest(host: Host, attachment: Attachment, agentMs: number, signal: AbortSignal) {
  // The end of the VMM comes sooner than a deadline, and is the better reason.
  const ended = new AbortController();
  void attachment.ended.then((exit) => ended.abort(vmmEnded(exit.code, exit.signal)));
  const either = AbortSignal.any([signal, ended.signal]);
  try {
    attachment.keepGuest(await host.guests.waitFor(attachment.handle, agentMs, either));
  } catch (error) {
    throw ended.signal.aborted ? ended.signal.reason : error;
  }
}

function vmmEnded(code: number | undefined, signal: string | undefined): HearthError {
  const how = signal === undefined ? `exit code ${code ?? "unknown"}` : signal;
  return new HearthError("vmm.failed", `The VMM ended before the guest agent answered (${how}).`);
}

function bootError(host: Host, vm: VmRecord, failure: HearthError): HearthError {
  const told = ["agent.unreachable", "vmm.failed"].includes(failure.code);
  if (!told) return failure;
  const paths = vmPaths(host.dirs, vm.id);
  const lines = consoleEnd(paths.console, CONSOLE_LINES).map((line) => `  ${line}`);
  const console =
    lines.length === 0 ? "The console is empty." : `The end of its console:\n${lines.join("\n")}`;
  return new HearthError("vm.boot_failed", `${vm.name} did not boot. ${console}`, {
    hint:
      failure.hint ?? `See the full logs: \`hearth logs ${vm.name}\` and \`hearth logs --vmm ${vm.name}\`.`,
    cause: failure,
  });
}

/**
 * Ends the VM's VMM, also one that was started just before hearthd was killed, of which no handle was stored.
 * Idempotent.
 */
export async function endVmm(host: Host, id: VmId, start?: Start): Promise<void> {
  const deadline = AbortSignal.timeout(KILL_DEADLINE_MS); // Not the caller's signal: it may be the reason for this.
  if (start?.attachment) {
    start.attachment.detach();
    await start.driver.stop(start.attachment.handle, "kill", deadline);
  }
  for (const orphan of host.processes.orphans(vmPaths(host.dirs, id).runDir)) {
    await host.processes.kill(id, orphan, deadline);
  }
}
