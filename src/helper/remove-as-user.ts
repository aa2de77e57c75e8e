/** Removing with the rights of who could have made it: what lies there leads to nothing that these may not remove. */
import { closeSync, constants, fchmodSync, fchownSync, readdirSync } from "node:fs";
import { openOwn } from "#helper/own-files.ts";
import type { Ids, OwnFile } from "#helper/own-files.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool, runOrThrow } from "#host/run.ts";
import { setprivArguments } from "#host/sandbox-root.ts";

const TIMEOUT_MS = 60_000;

/**
 * Empties a directory in which a VMM has made directories: they are the VM's, and hearthd could not remove them. It is done
 * with the rights of the VM's uid, so that whatever lies in there leads to nothing else. A directory without any stays as
 * it is.
 * @throws HearthError `path.unmanaged`, and the system's error where nothing is there
 */
export async function emptyOfDirectories(own: OwnFile, uid: number): Promise<void> {
  const fd = openOwn(own, constants.O_RDONLY);
  try {
    const shown = `/proc/self/fd/${fd}`;
    if (!readdirSync(shown, { withFileTypes: true }).some((entry) => entry.isDirectory())) return;
    fchownSync(fd, uid, uid);
    fchmodSync(fd, 0o700);
    const vm = { uid, gid: uid };
    await runAs(vm, ["chmod", "-R", "u+rwX", "."], shown);
    await runAs(vm, ["find", ".", "-mindepth", "1", "-delete"], shown);
  } finally {
    closeSync(fd);
  }
}

/** Removes what lies at `path` with the rights of this user alone. Links are removed, never followed. Idempotent. */
export async function removeAs(user: Ids, path: string): Promise<void> {
  await runAs(user, ["rm", "-rf", "--one-file-system", "--", path], "/");
}

async function runAs(user: Ids, command: readonly string[], cwd: string): Promise<void> {
  const setpriv = findProgram("setpriv");
  if (setpriv === undefined) throw missingTool("setpriv");
  const [program = "", ...args] = [...setprivArguments({ setpriv }, user, []), ...command];
  const { signal } = new AbortController(); // It has a deadline.
  await runOrThrow(program, args, { cwd, timeoutMs: TIMEOUT_MS, signal });
}
