import { lstatSync } from "node:fs";
import { chmod, mkdir, readdir, rename } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { ManagedFiles } from "#daemon/host.ts";
import { syncPath } from "#host/atomic-file.ts";
import { checkRoom } from "#drivers/save-bounds.ts";
import { removeTree } from "#host/managed-path.ts";

export const MANAGED_FILES: ManagedFiles = {
  /** Syncs the name of the directory, so that what is synced in it can be found. */
  async makeDir(path) {
    await makePrivateDir(path);
    await syncPath(dirname(path));
  },
  removeTree,
  checkRoom,
  async listDirs(root) {
    const entries = await readdir(root, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  },
  moveAside,
};

/**
 * Renames `path`: nothing in it is followed or copied, and it stays on its file system. Only one hearthd does this at a
 * time.
 */
async function moveAside(path: string, into: string): Promise<string> {
  await makePrivateDir(into);
  const name = basename(path);
  for (let number = 0; ; number++) {
    const to = join(into, number === 0 ? name : `${name}.${number}`);
    if (lstatSync(to, { throwIfNoEntry: false }) !== undefined) continue;
    await rename(path, to);
    for (const dir of [into, dirname(path)]) await syncPath(dir);
    return to;
  }
}

/** Makes a directory of mode 0700, whatever the umask. Idempotent. */
export async function makePrivateDir(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}
