import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { PROGRAM_ENV, missingTool } from "#host/run.ts";

/**
 * Returns the path where `run` finds the program, or undefined if it is not installed.
 * @param path the directories to search, separated by colons; by default those of `run`
 */
export function findProgram(name: string, path: string = PROGRAM_ENV.PATH): string | undefined {
  return path
    .split(delimiter)
    .map((dir) => join(dir, name))
    .find(isExecutable);
}

/**
 * Checks programs before work that would need them late.
 * @throws HearthError `host.tool_missing` for the first that is missing
 */
export function requirePrograms(names: readonly string[]): void {
  for (const name of names) if (findProgram(name) === undefined) throw missingTool(name);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // Missing or not executable: the next directory may have it.
  }
}
