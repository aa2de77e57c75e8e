import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { PROGRAM_ENV, missingTool } from "#host/run.ts";

/**
 * Where `run` finds the program, or undefined if it is not installed.
 * @param path the directories to look in, with colons between; those of `run` unless told
 */
export function findProgram(name: string, path: string = PROGRAM_ENV.PATH): string | undefined {
  return path
    .split(delimiter)
    .map((dir) => join(dir, name))
    .find(isExecutable);
}

/** Before work that would need them late. @throws HearthError `host.tool_missing` for the first that is not there. */
export function requirePrograms(names: readonly string[]): void {
  for (const name of names) if (findProgram(name) === undefined) throw missingTool(name);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // Not there, or not for us: the next directory may have it.
  }
}
