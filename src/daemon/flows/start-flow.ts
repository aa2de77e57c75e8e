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
import type { Origin, VmOrigin } from "#daemon/vm/vm-origin.ts";
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

/** Holds what the undo of a start needs: it is all that is known after a crash. */
export type StartLeft = {
  readonly host: Host;
  readonly id: VmId;
  /** Its disk is made anew for this start, and of no use after one that failed. */
  readonly diskIsNew?: boolean | undefined;
  /** Missing after a crash. */
  readonly start?: Start | undefined;
};

/** Holds what the steps of a start work on. */
export type StartContext = StartLeft & { readonly start: Start };

/** What is journalled. */
export type StartPlan = {
  readonly back: VmState;
  readonly diskIsNew: boolean;
  /** What the VM is to begin as: it is in its row until the VM has begun. */
  readonly origin?: SnapshotId | undefined;
  /** What was on its disk is of no use to anybody. */
  readonly fresh?: boolean | undefined;
};

export type Start = {
  readonly vm: VmRecord;
  readonly driver: VmDriver;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
  readonly attach: (handle: VmHandle) => Attachment;
  /** Stores that it runs, as the last step. */
  readonly commit: (attachment: Attachment) => void;
  readonly clock: StageClock;
  /** What it goes on from, in place of a boot. */
  memory: Origin | undefined;
  disk: VmOrigin["disk"];
  /** A template did not work: nobody is to try it again. */
  readonly discardTemplate: (template: SnapshotRecord) => Promise<void>;
  /** The VMM that was booted last. */
  attachment?: Attachment;
  /** Its guest may have written to its disk. */
  mayHaveRun?: boolean;
  /** A guest that began with another one's disk was made this VM before its init started. */
  hasOwnIdentity?: boolean;
  /** What its guest could not do of its identity. */
  guestWarnings?: readonly string[];
  /** A template that did not work. */
  failedTemplate?: SnapshotRecord;
};

const KILL_DEADLINE_MS = 10_000;
/** It takes 20 ms on a host with KVM, and seconds in an emulated guest on a host that is busy. */
const IDENTITY_DEADLINE_MS = 60_000;
/** Of the time that a guest has to answer: a restored one does so in a fraction of a boot's. */
const FIRST_TRY_PART = 3;
/** Of the console in the error of a boot that failed. */
const CONSOLE_LINES = 12;

export const START_VM: Flow<StartContext, StartLeft> = {
  kind: "start",
  afterCrash: "unwind",
  steps: [
    {
      name: "acquire what the VM needs of the host",
      run: async ({ host, id, start }) => {
        // Two VMMs on one disk would destroy it: whatever an earlier start has left ends before anything is made.
        await endVmm(host, id);
        await host.files.makeDir(vmPaths(host.dirs, id).saveDir); // It stays, with the VM's own directory.
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
      name: "give the identity",
      // A guest that goes on as somebody else got it already: one that does not take it is booted instead.
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
    await fallBackToBoot(host, start, memory.snapshot, error); // It may have been removed a moment ago.
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
    await flattenUnlessLayered(host, stateDir, driver, signal); // Another driver may have saved it.
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

/** @throws HearthError `vm.identity_failed` for a restored guest, which must not run then: the caller ends its VMM. */
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
    hint: `Nothing of it has run, and ${asItWas}: try again, and see \`hearth logs ${vm.name}\` for its console.`,
    cause: failure.cause,
  });
}

/**
 * Restores the VM or boots it, until its agent answers.
 *
 * A template that does not work is given up, and the VM boots instead. A guest that is not heard of is ended, and tried
 * again: by a boot as often as the driver says; by a restore once, unless it may have written to a disk of its own. (A
 * guest of Firecracker's, on a busy host with emulated KVM, was twice in some dozens of restores not heard of for 90
 * seconds; the same memory went on in another VM.)
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
        attempt = 0; // The boot's own attempts begin.
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

/** Boots, and has the guest's own init started. */
async function bootOnce(host: Host, start: Start): Promise<void> {
  const { driver, onProgress, signal } = start;
  const { agentDeadlineMs } = await driver.features(signal);
  const run = (plan: BootPlan): Promise<VmHandle> => driver.boot(plan, onProgress, signal);
  await startVmm(host, start, "starting the VMM", agentDeadlineMs, run);
  await startInit(host, start);
}

/** Ends the VMM whose guest is not heard of. What a restored guest has written is gone: it has its saved disk again. */
async function clearForRetry(host: Host, start: Start, error: unknown): Promise<void> {
  const { vm, memory, onProgress } = start;
  const log = host.log.child({ vm: vm.id });
  if (memory === undefined) log.event("vm.boot_retried", { error });
  else log.event("vm.restore_retried", { snapshot: memory.snapshot.id, error });
  const what = memory === undefined ? "booting" : "restoring";
  onProgress({ stage: "boot", text: `the guest hung; ${what} once more` });
  await endVmm(host, vm.id, start);
  if (memory !== undefined) await makeDiskOf(host, start);
}

/** Retires the template, and makes the VM a disk of its own to boot with. */
async function fallBackToBoot(host: Host, start: Start, template: SnapshotRecord, error: unknown) {
  const { vm, signal } = start;
  host.log.child({ vm: vm.id }).event("vm.restore_failed", { snapshot: template.id, error });
  start.onProgress({ stage: "boot", text: "the template does not work; booting instead" });
  await endVmm(host, vm.id, start);
  // A driver that has to copy the memory may find no room for it, which says nothing about the template.
  if (toHearthError(error).code !== "host.disk_full") {
    await start.discardTemplate(template);
    start.failedTemplate = template;
  }
  start.memory = undefined;
  start.disk = "empty";
  await host.disks.create(vmPaths(host.dirs, vm.id).stateDir, vm.spec.diskBytes, signal);
}

/** Starts a VMM, and waits until its guest's agent answers or the VMM ends. */
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
 * Has the guest's own init started, where it has one. The agent answers before that init runs, and starts it when the
 * guest has its identity and its volumes, so that no service runs without them; the agent that answers next is one of
 * its services. An agent of an older hearthd is that from the start.
 */
async function startInit(host: Host, start: Start): Promise<void> {
  const { vm, driver, disk, attachment, onProgress, signal } = start;
  if (vm.spec.init !== "systemd" || attachment === undefined) return;
  const { agentDeadlineMs } = await driver.features(signal);
  const configured = await giveIdentity(host, start, typeof disk === "object");
  if (configured?.initFollows !== true) return;
  start.hasOwnIdentity = true;
  onProgress({ stage: "boot", text: "starting the guest's init" });
  attachment.releaseGuest();
  await awaitGuest(host, attachment, agentDeadlineMs, signal);
  start.clock.end("init");
}

async function awaitGuest(host: Host, attachment: Attachment, agentMs: number, signal: AbortSignal) {
  // The VMM's own end is the sooner and better reason than a deadline.
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
  return new HearthError("vmm.failed", `The VMM ended before the guest's agent answered (${how}).`);
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
      failure.hint ?? `See all of it with \`hearth logs ${vm.name}\` and \`hearth logs --vmm ${vm.name}\`.`,
    cause: failure,
  });
}

/** Idempotent; also for a VMM that was started just before hearthd was killed, so that no handle was kept. */
export async function endVmm(host: Host, id: VmId, start?: Start): Promise<void> {
  const deadline = AbortSignal.timeout(KILL_DEADLINE_MS); // Not the caller's: it may be the reason for this.
  if (start?.attachment) {
    start.attachment.detach();
    await start.driver.stop(start.attachment.handle, "kill", deadline);
  }
  for (const orphan of host.processes.orphans(vmPaths(host.dirs, id).runDir)) {
    await host.processes.kill(id, orphan, deadline);
  }
}
