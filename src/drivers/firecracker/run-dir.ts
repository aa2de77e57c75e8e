/**
 * Makes the files that a Firecracker finds in its run directory when it starts, and removes what is left when it has
 * ended.
 */
import { lstatSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { diskLinks, firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { isDriveId } from "#drivers/firecracker/drive-id.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { makeFifos } from "#host/fifo.ts";
import { checkSocketPath, removeStaleSocket } from "#host/unix-socket.ts";

/**
 * Makes the pipes and links, in place of those of an earlier VMM.
 * @throws HearthError `host.path_too_long`
 */
export async function makeRunFiles(
  plan: Pick<BootPlan, "runDir" | "disks">,
  signal: AbortSignal,
): Promise<void> {
  const files = firecrackerFiles(plan.runDir);
  Object.values(files).forEach(checkSocketPath);
  removeRunFiles(plan.runDir);
  await makeFifos([files.console, files.log, files.metrics], signal);
  symlinkSync(".", files.self);
  for (const { at, to } of diskLinks(plan)) symlinkSync(to, at);
}

/**
 * Checks that a VMM has not replaced its sockets and pipes while it loaded a snapshot. To be called when it cannot
 * change the directory any more.
 * @throws HearthError `path.unmanaged`
 */
export function checkRunFiles({ runDir, isolation }: Pick<BootPlan, "runDir" | "isolation">): void {
  const files = firecrackerFiles(runDir);
  for (const path of [files.api, files.vsock]) {
    const stats = lstatSync(path);
    if (!stats.isSocket()) throw replaced(path, "a socket");
    const owner = isolation.uid ?? process.geteuid?.();
    if (stats.uid !== owner) throw replaced(path, `a socket of uid ${owner}`);
  }
  for (const path of [files.console, files.log, files.metrics])
    if (!lstatSync(path).isFIFO()) throw replaced(path, "a pipe");
}

function replaced(path: string, what: string): HearthError {
  return new HearthError("path.unmanaged", `Firecracker has replaced ${path}: it is not ${what}.`, {
    hint: "The snapshot may be forged; use another one.",
  });
}

/** Removes the files; the targets of links stay. Idempotent. */
export function removeRunFiles(runDir: string): void {
  for (const path of Object.values(firecrackerFiles(runDir))) removeStaleSocket(path);
  for (const name of namesIn(runDir)) if (isDriveId(name)) removeStaleSocket(join(runDir, name));
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
