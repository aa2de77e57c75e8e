import { open } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { STATE_NAMES } from "#base/file-names.ts";
import { followLog } from "#base/follow-log.ts";
import type { Dirs } from "#base/hearth-dirs.ts";

/** hearthd's own log, as docs/on-disk.md has it. */
export function daemonLogPath(dirs: Dirs): string {
  return join(dirs.state, STATE_NAMES.log);
}

/** The log's last lines, or all of it, and what comes after; undefined when there is none. */
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
