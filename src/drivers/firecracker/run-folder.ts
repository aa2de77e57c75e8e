/** What a Firecracker finds in its run folder when it starts, and what is left there when it has ended. */
import { readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { diskLinks, firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { isDriveId } from "#drivers/firecracker/drive-id.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { makeFifos } from "#host/fifo.ts";
import { checkSocketPath, removeStaleSocket } from "#host/unix-socket.ts";

/**
 * Makes its pipes and links in place of what an earlier VMM has left.
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

/** What links point to stays. Idempotent. */
export function removeRunFiles(runDir: string): void {
  for (const path of Object.values(firecrackerFiles(runDir))) removeStaleSocket(path);
  for (const name of namesIn(runDir)) if (isDriveId(name)) removeStaleSocket(join(runDir, name));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
