import { endProcess } from "#host/process-end.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { networkInForce, readBackIsolation } from "#jail/isolation-faults.ts";
import type { FaultOptions } from "#jail/isolation-faults.ts";
import { jailFiles, launchVmm } from "#jail/launch-vmm.ts";
import { OPEN_ANYWHERE, OpenStdio } from "#jail/open-stdio.ts";
import type { LaunchedVmm, LaunchIsolation, VmmLaunch } from "#jail/vmm-launch.ts";
import type { IsolationInForce } from "#model/isolation.ts";

/**
 * The isolation of one VMM: what the user asked for, reduced to what this host supports. The functions do the steps
 * that take root.
 */
export type BootIsolation = LaunchIsolation & {
  readonly seccomp: boolean;
  /** The directory of the VMM's cgroup, if it gets one. */
  readonly cgroup?: string | undefined;
  /** Sentences with reasons: the isolation that is missing, or differs from what was asked for. */
  readonly gaps: readonly string[];
  /**
   * Starts the VMM. Its process is known, and in its cgroup, before it runs. A VMM that ends at once is no error here:
   * its `exit` says so.
   * @throws HearthError `vmm.missing`; `host.tool_missing`, `feature.missing` where this host has no such isolation;
   * nothing is left then
   */
  launch(launch: VmmLaunch, signal: AbortSignal): Promise<LaunchedVmm>;
  /** Finds what the kernel does not enforce on the VMM as it was launched, see `readBackIsolation`. */
  findFaults(vmm: ProcessRef, options: FaultOptions): Promise<string[]>;
  /** Ends the VMM, or its launcher, by SIGKILL. Resolves when it is gone. Idempotent. */
  end(process: ProcessRef, signal: AbortSignal): Promise<void>;
  /** Makes the run directory read-only for the VMM, once the VMM has made its sockets and before the guest runs. */
  seal(): Promise<void>;
  /** Makes the VMM the owner of the copy of a guest memory file in its state directory. */
  giveMemoryCopy(): Promise<void>;
};

/** No isolation: for a VMM that runs nothing of a user's, and is started with hearthd's own rights. */
export const NO_ISOLATION: BootIsolation = {
  jail: false,
  pidNamespace: false,
  seccomp: true,
  network: { kind: "own" },
  jailDir: "/nonexistent",
  gaps: [],
  async launch(launch, signal) {
    using stdio = new OpenStdio(launch, OPEN_ANYWHERE);
    const files = this.jail ? jailFiles(launch) : launch.files;
    return await launchVmm({ ...launch, files }, stdio, this, async () => {}, signal);
  },
  async findFaults(vmm, options) {
    return readBackIsolation(vmm, isolationInForce(this), options);
  },
  async end(process, signal) {
    await endProcess(process, 0, signal);
  },
  async seal() {},
  async giveMemoryCopy() {},
};

/** Returns the isolation that a VMM of this boot has. `isolation-faults.ts` compares it with what the kernel says. */
export function isolationInForce(isolation: BootIsolation): IsolationInForce {
  const { jail, pidNamespace, network, seccomp, uid, cgroup, gaps } = isolation;
  return {
    jail,
    uid: jail ? uid : undefined,
    pidNamespace,
    network: networkInForce(jail, network),
    seccomp,
    cgroup,
    gaps,
  };
}
