import { closeSync, constants, fchmodSync, fchownSync, readdirSync } from "node:fs";
import { openOwn } from "#helper/own-files.ts";
import type { OwnFile } from "#helper/own-files.ts";
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
    const setpriv = findProgram("setpriv");
    if (setpriv === undefined) throw missingTool("setpriv");
    const [program = "", ...asVm] = setprivArguments({ setpriv }, { uid, gid: uid }, []);
    const { signal } = new AbortController(); // It has a deadline.
    const options = { cwd: shown, timeoutMs: TIMEOUT_MS, signal };
    await runOrThrow(program, [...asVm, "chmod", "-R", "u+rwX", "."], options);
    await runOrThrow(program, [...asVm, "find", ".", "-mindepth", "1", "-delete"], options);
  } finally {
    closeSync(fd);
  }
}
