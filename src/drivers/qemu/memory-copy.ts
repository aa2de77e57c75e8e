/** The copy of a guest memory file for one VM, for a QEMU that opens what it maps for writing. */
import { chmod, rm, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { failAfter } from "#base/clean-up.ts";
import { HearthError, toHearthError } from "#base/error.ts";
import { VM_NAMES } from "#base/file-names.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { copySparse } from "#host/copy-sparse.ts";

const STAT_BLOCK_BYTES = 512;

/**
 * Copies `memory` into the VM's state directory: as a reflink where the file system supports it, otherwise without the
 * holes. Disposal removes the name. A QEMU that has mapped the file keeps it; its blocks are freed when that QEMU ends,
 * however it ends.
 */
export class MemoryCopy implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Makes the copy.
   * @throws HearthError `host.disk_full`; `snapshot.failed` when `memory` cannot be read. Nothing is left then.
   */
  static async make(
    { stateDir, isolation }: Pick<BootPlan, "stateDir" | "isolation">,
    memory: string,
    signal: AbortSignal,
  ): Promise<MemoryCopy> {
    const path = join(stateDir, VM_NAMES.memoryCopy);
    await rm(path, { force: true }); // Left by a hearthd that was killed.
    try {
      await assertRoom(memory, path);
      await copySparse(memory, path, signal);
      await chmod(path, 0o600);
      await isolation.giveMemoryCopy();
      return new MemoryCopy(path);
    } catch (error) {
      return await failAfter(copyError(error, memory, signal), () => rm(path, { force: true }));
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return rm(this.path, { force: true });
  }
}

async function assertRoom(memory: string, path: string): Promise<void> {
  const { blocks } = await stat(memory);
  const { bavail, bsize } = await statfs(dirname(path));
  const needed = blocks * STAT_BLOCK_BYTES;
  const free = bavail * bsize;
  if (needed <= free) return;
  throw new HearthError(
    "host.disk_full",
    `Cannot copy the guest memory file for this VM: it needs ${formatSizeRounded(needed)}, and ${dirname(path)} has ${formatSizeRounded(free)} free.`,
    {
      hint: "Free some space (`hearth ls` and `hearth image ls` show what uses it), or install QEMU 8.2 or newer, which needs no copy.",
    },
  );
}

function copyError(error: unknown, memory: string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason;
  if (toHearthError(error).code === "host.disk_full") return error;
  return new HearthError("snapshot.failed", `Cannot copy the guest memory file ${memory}`, { cause: error });
}
