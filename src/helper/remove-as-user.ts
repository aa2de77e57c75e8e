/**
 * Removes files with the rights of the user who could have made them: links lead to nothing that this user may not
 * remove.
 */
import { closeSync, constants, fchmodSync, fchownSync, readdirSync } from "node:fs";
import { openOwn } from "#helper/own-files.ts";
import type { Ids, OwnFile } from "#helper/own-files.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool, runOrThrow } from "#host/run.ts";
import { setprivArguments } from "#host/sandbox-root.ts";

const TIMEOUT_MS = 60_000;

/**
 * Empties a directory if a VMM has made directories in it: they belong to the VM, and hearthd could not remove them.
 * Uses the rights of the VM's uid, so that links in it lead to nothing else. A directory without directories stays as
 * it is.
 * @throws HearthError `path.unmanaged`, and the system's error if it does not exist
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

/** Removes `path` with the rights of this user only. Links are removed, never followed. Idempotent. */
export async function removeAs(user: Ids, path: string): Promise<void> {
  await runAs(user, ["rm", "-rf", "--one-file-system", "--", path], "/");
}

async function runAs(user: Ids, command: readonly string[], cwd: string): Promise<void> {
  const setpriv = findProgram("setpriv");
  if (setpriv === undefined) throw missingTool("setpriv");
  const [program = "", ...args] = [...setprivArguments({ setpriv }, user, []), ...command];
  const { signal } = new AbortController(); // The command has a deadline instead.
  await runOrThrow(program, args, { cwd, timeoutMs: TIMEOUT_MS, signal });
}
