import { open } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { STATE_NAMES } from "#base/file-names.ts";
import { followLog } from "#base/follow-log.ts";
import type { Dirs } from "#base/hearth-dirs.ts";

/** Returns the path of hearthd's log; see docs/on-disk.md. */
export function daemonLogPath(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.log);
}

/** Streams the last lines of the log, or all of it, and optionally what follows. Undefined if there is no log. */
export async function openDaemonLog(
  dirs: Dirs,
  options: { readonly lines: number | undefined; readonly follow: boolean },
): Promise<Readable | undefined> {
  const path = daemonLogPath(dirs);
  try {
    await (await open(path, "r")).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const { signal } = new AbortController();
  return Readable.from(followLog(path, { ...options, isOver: () => false, signal }), { objectMode: false });
}
