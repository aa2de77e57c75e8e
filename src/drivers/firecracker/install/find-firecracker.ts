import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { HearthError, toError } from "#base/error.ts";
import { refusalOf } from "#drivers/firecracker/install/firecracker-release.ts";
import { inspectProgram } from "#drivers/firecracker/install/inspect-program.ts";
import { firecrackerDir, listInstalledReleases } from "#drivers/firecracker/install/installed-releases.ts";
import type { ProgramSums } from "#drivers/firecracker/install/unpack-release.ts";
import { findProgram } from "#host/find-program.ts";

export type FirecrackerSource = "config" | "path" | "installed";

export type FirecrackerOptions = {
  readonly cacheDir: string;
  /** The program in config.toml; absolute. */
  readonly program?: string | undefined;
  readonly jailer?: string | undefined;
  /** The directories that are searched for programs, separated by colons. Default: as for all programs. */
  readonly path?: string | undefined;
};

export type Firecracker = {
  /** Absolute, with links resolved. */
  readonly program: string;
  readonly jailer: string;
  readonly version: string;
  readonly source: FirecrackerSource;
  /** The owner of the program; the jailer's is as safe. */
  readonly ownerUid: number;
  readonly mode: number;
};

export type FoundFirecracker =
  | ({ readonly ok: true } & Firecracker)
  | {
      readonly ok: false;
      /** Sentences for the user. */
      readonly reason: string;
      readonly hint: string;
      /** The program that was refused; undefined when there is none. */
      readonly refused: { readonly source: FirecrackerSource; readonly program: string } | undefined;
    };

const INSTALL = "Install a verified one: hearth firecracker install";

type Candidate = {
  readonly source: FirecrackerSource;
  readonly program: string;
  readonly jailer: string | undefined;
  readonly sums?: ProgramSums | undefined;
};

/**
 * Finds the Firecracker that hearthd uses: the configured one and no other; otherwise the first suitable one of that in
 * PATH and those in the cache, newest first.
 */
export async function findFirecracker(
  options: FirecrackerOptions,
  signal: AbortSignal,
): Promise<FoundFirecracker> {
  const all = await inspectAll(options, signal);
  const [first = { ok: false, reason: "Firecracker is not installed.", hint: INSTALL, refused: undefined }] =
    all;
  return all.find((one) => one.ok) ?? first;
}

/** Returns every Firecracker of this host in the order in which they are tried, also those that are refused. */
export async function listFirecrackers(
  options: FirecrackerOptions,
  signal: AbortSignal,
): Promise<FoundFirecracker[]> {
  return inspectAll(options, signal);
}

/** Returns all programs that `findFirecracker` may find, and the directories that contain only such programs. */
export function firecrackerPrograms({ cacheDir, program, jailer = "jailer" }: FirecrackerOptions): {
  readonly programs: readonly string[];
  readonly dirs: readonly string[];
} {
  const own = program === undefined ? ["firecracker"] : [program, join(dirname(program), "jailer")];
  return { programs: [...own, jailer], dirs: [firecrackerDir(cacheDir)] };
}

async function inspectAll(options: FirecrackerOptions, signal: AbortSignal): Promise<FoundFirecracker[]> {
  const candidates = await candidatesOf(options);
  return Promise.all(candidates.map((candidate) => inspect(candidate, signal)));
}

async function candidatesOf(options: FirecrackerOptions): Promise<Candidate[]> {
  const inPath = (name: string): string | undefined => findProgram(name, options.path);
  if (options.program !== undefined) {
    const beside = join(dirname(options.program), "jailer");
    const jailer = options.jailer ?? (existsSync(beside) ? beside : inPath("jailer"));
    return [{ source: "config", program: options.program, jailer }];
  }
  const program = inPath("firecracker");
  const jailer = options.jailer ?? inPath("jailer");
  const installed = await listInstalledReleases(options.cacheDir);
  return [
    ...(program === undefined ? [] : [{ source: "path", program, jailer } as const]),
    ...installed.map(({ dir, sums }) => ({
      source: "installed" as const,
      program: join(dir, "firecracker"),
      jailer: join(dir, "jailer"),
      sums,
    })),
  ];
}

async function inspect(candidate: Candidate, signal: AbortSignal): Promise<FoundFirecracker> {
  const { source, sums } = candidate;
  try {
    if (source === "installed" && sums === undefined)
      throw new Error(`Cannot verify ${candidate.program}: its manifest is missing or damaged.`);
    if (candidate.jailer === undefined) throw new Error(`${candidate.program} has no jailer.`);
    const program = await inspectProgram(candidate.program, "Firecracker", sums?.firecracker, signal);
    const jailer = await inspectProgram(candidate.jailer, "Jailer", sums?.jailer, signal);
    const { version, ownerUid, mode } = program;
    const refusal = refusalOf(version);
    if (refusal !== undefined)
      throw new HearthError(refusal.code, `${program.path}: ${refusal.message}`, { hint: refusal.hint });
    // A jailer knows only the options of the Firecracker of its version.
    if (jailer.version !== version)
      throw new Error(
        `${program.path} is version ${version}, and ${jailer.path} is version ${jailer.version}.`,
      );
    return { ok: true, program: program.path, jailer: jailer.path, version, source, ownerUid, mode };
  } catch (error) {
    signal.throwIfAborted();
    const fix = source === "config" ? "Correct [firecracker] in config.toml, or leave it out." : INSTALL;
    const which = error instanceof HearthError ? error.hint : undefined;
    const hint = which === undefined ? fix : `${which} ${fix}`;
    const refused = { source, program: candidate.program };
    return { ok: false, reason: toError(error).message, hint, refused };
  }
}
