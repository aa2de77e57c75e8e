/**
 * Kills an operation after each of its effects on files, one run for each: as SIGKILL does, nothing of it runs on, not
 * even what would clean up. The functions of node:fs/promises that change something are the places.
 */
import fs from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";

const EFFECTS = [
  "rename",
  "rm",
  "link",
  "chmod",
  "copyFile",
  "symlink",
  "mkdir",
  "truncate",
  "writeFile",
] as const;

type Effect = (...args: unknown[]) => Promise<unknown>;

/** Runs `work` until so many effects are done; true when it came to its end before. */
async function runUntil(effects: number, work: () => Promise<unknown>): Promise<boolean> {
  const originals = new Map<string, Effect>();
  const functions = fs as unknown as Record<string, Effect>;
  const killed = Promise.withResolvers<false>();
  let left = effects;
  const wrap = (effect: Effect): Effect => {
    return async (...args) => {
      if (left === 0) return new Promise(() => {}); // Dead: it never continues.
      const result = await effect(...args);
      left -= 1;
      if (left > 0) return result;
      killed.resolve(false);
      return new Promise(() => {});
    };
  };
  const opened: FileHandle[] = [];
  // Making a file is an effect; opening one to read is not.
  const wrapOpen = (open: Effect): Effect => {
    const remembered: Effect = async (...args) => {
      const file = (await open(...args)) as FileHandle;
      opened.push(file);
      return file;
    };
    const counted = wrap(remembered);
    return (path, flags, ...more) =>
      /^(wx|a|w)/.test(String(flags)) ? counted(path, flags, ...more) : remembered(path, flags, ...more);
  };
  for (const name of [...EFFECTS, "open"]) {
    const original = functions[name] as Effect;
    originals.set(name, original);
    functions[name] = name === "open" ? wrapOpen(original) : wrap(original);
  }
  syncBuiltinESMExports();
  try {
    return await Promise.race([work().then(() => true), killed.promise]);
  } finally {
    for (const [name, original] of originals) functions[name] = original;
    syncBuiltinESMExports();
    for (const file of opened) await file.close(); // As the kernel does with files of a dead process.
  }
}

export type CrashTest<Place> = {
  /** The files that the operation finds; made anew for each run. */
  readonly prepare: () => Promise<Place>;
  readonly operation: (place: Place) => Promise<unknown>;
  /** Checks the state after the kill and a restart of hearthd. */
  readonly check: (place: Place, killedAfter: number) => Promise<void>;
};

/**
 * Returns the number of effects after which it was killed.
 * @throws errors of `check`
 */
export async function crashAtEachEffect<Place>({
  prepare,
  operation,
  check,
}: CrashTest<Place>): Promise<number> {
  for (let effects = 1; ; effects++) {
    const place = await prepare();
    const isDone = await runUntil(effects, () => operation(place));
    await check(place, effects);
    if (isDone) return effects - 1;
  }
}
