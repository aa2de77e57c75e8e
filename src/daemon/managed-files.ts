import { chmod, mkdir, readdir } from "node:fs/promises";
import type { ManagedFiles } from "#daemon/host.ts";
import { removeTree } from "#host/managed-path.ts";

export const MANAGED_FILES: ManagedFiles = {
  makeFolder: makePrivateFolder,
  removeTree,
  async listFolders(root) {
    const entries = await readdir(root, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  },
};

/** For the owner alone, whatever the umask. Idempotent. */
export async function makePrivateFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}
