/** How a Firecracker is started: its words, and the files that it needs; decided in pure functions. */
import { firecrackerFiles, RUN_DIR_IN_JAIL } from "#drivers/firecracker/boot-config.ts";
import type { JailFile } from "#jail/jail-command.ts";
import type { BootPlan, SnapshotFiles } from "#drivers/vm-driver.ts";

export type FirecrackerStart = {
  /** By its own jailer, which gives the id itself and refuses a second one, and makes the devices. */
  readonly byJailer: boolean;
  /** A compiled filter in place of Firecracker's own; absolute. */
  readonly seccompFilter?: string | undefined;
  /** What the guest goes on from. Otherwise it boots. */
  readonly saved?: SnapshotFiles | undefined;
};

/** Without the program's name. SV-023. */
export function firecrackerArguments(plan: BootPlan, start: FirecrackerStart): string[] {
  const files = firecrackerFiles(plan.runDir);
  const id = start.byJailer ? [] : ["--id", plan.id];
  // Info, because the last line says how it ended, also to a hearthd that is not its parent. Not by the API: what
  // comes before a request is logged on the console.
  const log = ["--log-path", files.log, "--level", "Info", "--show-level"];
  return [...id, "--api-sock", files.api, ...log, ...seccompArguments(plan, start)];
}

/** VS-064: a filter that is named and not there ends the start; nothing falls back to none. */
function seccompArguments({ isolation }: BootPlan, { seccompFilter }: FirecrackerStart): string[] {
  if (!isolation.seccomp) return ["--no-seccomp"];
  return seccompFilter === undefined ? [] : ["--seccomp-filter", seccompFilter];
}

/** All that it needs of the host. */
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
    ...(start.byJailer ? [] : [{ path: "/dev/kvm", access: "device" } as const]),
  ];
}
