import { releaseHostResources } from "#daemon/vm/host-resources.ts";
import { endVmm } from "#daemon/flows/start-flow.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import type { Guest, Host } from "#daemon/host.ts";
import { abortAfter, unlessAborted } from "#base/deadline.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { SnapshotId, VmId } from "#model/ids.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

/** The part of the stop that is journaled. `graceful` asks the guest first; the others end the VMM at once. */
export type StopPlan = {
  readonly mode: "graceful" | "terminate" | "kill";
  readonly timeoutMs: number;
  /** The snapshot with the VM's memory, when this is the end of a suspend: the VM is `suspended` then, not stopped. */
  readonly suspendedTo?: SnapshotId | undefined;
};

export type StopContext = {
  readonly host: Host;
  readonly id: VmId;
  readonly plan: StopPlan;
  /** Undefined in a recovery that finds no VMM. */
  readonly vmm: { readonly driver: VmDriver; readonly handle: VmHandle } | undefined;
  /** The guest's agent, if it may answer. */
  readonly agent?: AskedAgent | undefined;
  /** Resolves when the VMM has ended by itself. */
  readonly ended: Promise<VmExit>;
  /** Stores that the VM has stopped. */
  readonly commit: (exit: VmExit) => void;
  /** Aborts when a stronger action takes over: the stop does not wait for the guest any longer, and fails. */
  readonly signal: AbortSignal;
  exit?: VmExit;
};

/** An agent whose answers have a deadline. If its connection is dead, a new one is tried. */
export type AskedAgent = {
  /** @throws HearthError `agent.unreachable`, and what `call` throws */
  ask(
    call: (guest: Guest, signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
    deadlineMs: number,
  ): Promise<void>;
  close(): void;
};

/** The time for the VMM to end after SIGTERM, before SIGKILL. */
const TERMINATE_MS = 5_000;
/** The time for the kernel to end a killed process, also under load. */
const KILL_MS = 15_000;

/**
 * Stops a VM: asks the agent, then SIGTERM, then SIGKILL, each with a deadline. Finished after a crash, when the VMM
 * may have ended.
 */
export const STOP_VM: Flow<StopContext> = {
  kind: "stop",
  afterCrash: "finish",
  steps: [
    { name: "ask the guest", run: askGuest },
    { name: "end the VMM", run: endTheVmm },
    {
      name: "release host resources",
      run: async ({ host, id, agent }) => {
        agent?.close();
        await releaseHostResources(host, id);
      },
    },
    {
      name: "commit",
      endsJournal: true,
      run: async ({ host, commit, exit }) => commit(exit ?? { reason: "unseen", atMs: host.now() }),
    },
  ],
};

/** Asks the guest to power off, and waits for the VMM's end: by then the guest has flushed its disks. */
async function askGuest(context: StopContext): Promise<void> {
  const { plan, agent, signal: takenOver } = context;
  if (plan.mode !== "graceful" || agent === undefined) return;
  const late = (): Error => new Error(`The guest did not power off within ${plan.timeoutMs} ms.`);
  using deadline = abortAfter(Math.max(plan.timeoutMs, 1), late, takenOver);
  let isAsked = false;
  const shutdown = async (guest: Guest, signal: AbortSignal): Promise<void> => {
    isAsked = true;
    await guest.shutdown({ timeoutMs: Math.round(plan.timeoutMs * 0.8) }, signal);
  };
  try {
    // A third each for the answer, for a probe of an agent that does not give one, and for a new connection.
    await agent.ask(shutdown, deadline.signal, Math.max(Math.ceil(plan.timeoutMs / 3), 1));
  } catch (error) {
    takenOver.throwIfAborted();
    // The power may go off before the answer arrives. Otherwise the next step ends the VMM without the guest.
    context.host.log.child({ vm: context.id }).event("agent.disconnected", { error });
  }
  if (!isAsked) return;
  const exit = await endInTime(context, deadline.signal);
  if (exit) context.exit = { ...exit, reason: "asked" };
}

/**
 * Returns undefined when the guest does not power off in time.
 * @throws the reason of `signal` when another action takes over
 */
async function endInTime({ ended, signal }: StopContext, late: AbortSignal): Promise<VmExit | undefined> {
  try {
    return await unlessAborted(ended, late);
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

async function endTheVmm(context: StopContext): Promise<void> {
  const { host, id, plan, vmm } = context;
  if (context.exit === undefined && vmm !== undefined && (await vmm.driver.recover(vmm.handle))) {
    const [mode, deadlineMs] =
      plan.mode === "kill" ? (["kill", KILL_MS] as const) : (["terminate", TERMINATE_MS + KILL_MS] as const);
    context.exit = {
      ...(await vmm.driver.stop(vmm.handle, mode, AbortSignal.timeout(deadlineMs))),
      reason: "asked",
    };
  }
  await endVmm(host, id);
}
