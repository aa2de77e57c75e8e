/** Builds the arguments of a Firecracker and the list of files that it needs, in pure functions. */
import { firecrackerFiles, RUN_DIR_IN_JAIL } from "#drivers/firecracker/boot-config.ts";
import type { JailFile } from "#jail/jail-command.ts";
import type { BootPlan, SnapshotFiles } from "#drivers/vm-driver.ts";

export type FirecrackerStart = {
  /**
   * True when its own jailer starts it. The jailer sets `--id` itself and refuses a second one, and makes the devices.
   */
  readonly byJailer: boolean;
  /** Absolute path of a compiled filter that replaces Firecracker's own. */
  readonly seccompFilter?: string | undefined;
  /** The snapshot that is restored. Undefined: the guest boots. */
  readonly saved?: SnapshotFiles | undefined;
};

/** Returns the arguments without the program's name. */
export function firecrackerArguments(plan: BootPlan, start: FirecrackerStart): string[] {
  const files = firecrackerFiles(plan.runDir);
  const id = start.byJailer ? [] : ["--id", plan.id];
  // Level Info, because the last line says how it ended, also to a hearthd that is not its parent. As an argument, not
  // by the API: what is logged before the first request would go to the console.
  const log = ["--log-path", files.log, "--level", "Info", "--show-level"];
  return [...id, "--api-sock", files.api, ...log, ...seccompArguments(plan, start)];
}

/**
 * Returns the arguments of the system call filter. Firecracker ends when a named filter does not exist; nothing falls
 * back to none.
 */
function seccompArguments({ isolation }: BootPlan, { seccompFilter }: FirecrackerStart): string[] {
  if (!isolation.seccomp) return ["--no-seccomp"];
  return seccompFilter === undefined ? [] : ["--seccomp-filter", seccompFilter];
}

/** Returns all files of the host that Firecracker needs. */
export function firecrackerJailFiles(plan: BootPlan, start: FirecrackerStart): JailFile[] {
  const { seccompFilter, saved } = start;
  const read = saved === undefined ? [plan.kernel, plan.initramfs] : [saved.memory, saved.state];
  if (seccompFilter !== undefined && plan.isolation.seccomp) read.push(seccompFilter);
  return [
    ...read.map((path) => ({ path, access: "read" }) as const),
    ...plan.disks.map(({ path, readOnly }) => ({ path, access: readOnly ? "read" : "write" }) as const),
    { path: plan.runDir, access: "write" },
    { path: plan.runDir, access: "write", at: RUN_DIR_IN_JAIL },
    ...(plan.saveDir === undefined ? [] : [{ path: plan.saveDir, access: "write" } as const]),
    // The jailer makes the devices.
    ...(start.byJailer ? [] : devices(plan)),
  ];
}

function devices({ nics }: BootPlan): JailFile[] {
  const paths = ["/dev/kvm", ...(nics.length > 0 ? ["/dev/net/tun"] : [])];
  return paths.map((path) => ({ path, access: "device" }));
}
