import { realpathSync } from "node:fs";
import { isAbsolute } from "node:path";
import { HearthError } from "#base/error.ts";
import { findProgram } from "#host/find-program.ts";
import { realProgram } from "#jail/launch-vmm.ts";

/** The programs that may be started as a VMM, or as its launcher. Given at the start, and never with a request. */
export type VmmPrograms = {
  /** Names on PATH, or absolute paths. */
  readonly programs: readonly string[];
  /** Directories that contain only such programs. */
  readonly dirs: readonly string[];
};

/**
 * Resolves `program` to an absolute path without links.
 * @throws HearthError `vmm.missing`; `input.invalid` for one that is not on the list
 */
export function listedProgram({ programs, dirs }: VmmPrograms, program: string): string {
  if (typeof program !== "string" || program.includes("\0"))
    throw new HearthError("input.invalid", "The program of a VMM must be a name or a path.");
  const path = realProgram(program);
  const listed = programs.some((one) => realPath(one) === path);
  if (listed || dirs.some((dir) => path.startsWith(`${realPath(dir)}/`))) return path;
  throw new HearthError("input.invalid", `Cannot start ${path} as a VMM: it is not configured.`, {
    hint: "Name it in config.toml, as [drivers.qemu] program, or as [firecracker] program and jailer.",
  });
}

/** Returns undefined for a program that does not exist. */
function realPath(program: string): string | undefined {
  const path = isAbsolute(program) ? program : findProgram(program);
  try {
    return path === undefined ? undefined : realpathSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
