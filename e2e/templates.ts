/**
 * Warm templates that all beds of a run share, so that a VM whose boot proves nothing starts from memory that was saved
 * once. They are made like a user's, in a Hearth of their own; a bed begins with a copy of its database, in which they
 * are listed, and with links to their files.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "smol-toml";
import { failAfter } from "#base/clean-up.ts";
import { hearthDirs } from "#base/hearth-dirs.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { openDirectories } from "./apart.ts";
import { runCli } from "./run-cli.ts";

/** Where processes write what they have called: tools/coverage.ts. */
const COVERAGE = "NODE_V8_COVERAGE";
/** The home of the Hearth that has made them. */
const VARIABLE = "HEARTH_E2E_TEMPLATES";
const ROOT = join(import.meta.dirname, "..");
/** It may build the image first. */
const BUILD_MS = 600_000;
const SNAPSHOTS = "snapshots";
const DATABASE = /^hearth\.db/;

/**
 * For tests that save VMs, or have many at once: a smaller memory is saved, verified and restored in less time. All
 * other tests use the defaults, as most users do.
 */
export const SMALL: readonly string[] = ["--memory", "256M", "--cpus", "1"];
/** Nearly all VMs of the suite have one of these: the defaults, or SMALL. */
const SHAPES = [[], SMALL];

/** The directories and settings of a Hearth of the tests, below `home`. */
export function environment(home: string, cache: string): Readonly<Record<string, string>> {
  const reports = process.env[COVERAGE];
  return {
    ...(reports !== undefined && { [COVERAGE]: reports }),
    HOME: home,
    PATH: `${join(ROOT, "node_modules/node/bin")}:${process.env["PATH"] ?? ""}`,
    XDG_CONFIG_HOME: join(home, "config"),
    XDG_STATE_HOME: join(home, "state"),
    XDG_RUNTIME_DIR: join(home, "run"),
    XDG_CACHE_HOME: cache,
    NODE_COMPILE_CACHE: join(cache, "compile"),
  };
}

/**
 * Makes them, for VMs with this QEMU, and has beds use them; undoes both when it is disposed of. On the way Node keeps
 * hearthd's modules compiled: it does so for programs that end well, and tests kill theirs, some hundred times.
 */
export async function makeTemplates(cache: string, qemu?: string): Promise<AsyncDisposable> {
  const home = mkdtempSync("/tmp/ht-");
  const env = environment(home, cache);
  const hearth = async (args: readonly string[]): Promise<void> => {
    const words = [join(ROOT, "bin/hearth.ts"), ...args];
    const { code, stderr } = await runCli(process.execPath, words, { env, timeoutMs: BUILD_MS });
    if (code !== 0) throw new Error(`hearth ${args.join(" ")} ended with ${code}\n${stderr}`);
  };
  const { config } = hearthDirs(env, home);
  mkdirSync(config, { recursive: true });
  if (qemu !== undefined)
    writeFileSync(join(config, "config.toml"), stringify({ drivers: { qemu: { program: qemu } } }));
  const remove = (): void => rmSync(home, { recursive: true, force: true });
  try {
    for (const shape of SHAPES) await hearth(["template", "build", ...shape, "debian"]);
  } catch (error) {
    await failAfter(error, () => hearth(["daemon", "stop"]), remove);
  }
  await hearth(["daemon", "stop"]);
  openDirectories(home); // A hearthd without rights reads them, too.
  process.env[VARIABLE] = home;
  return {
    [Symbol.asyncDispose]: () => {
      delete process.env[VARIABLE];
      remove();
      return Promise.resolve();
    },
  };
}

/** Whether this run has any. */
export function hasTemplates(): boolean {
  return process.env[VARIABLE] !== undefined;
}

/** Before the first hearthd of a new Hearth. Returns their ids. */
export function linkTemplates(to: Dirs): string[] {
  const home = process.env[VARIABLE] ?? "";
  const { state } = hearthDirs(environment(home, ""), home);
  mkdirSync(to.state, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(state))
    if (DATABASE.test(name)) cpSync(join(state, name), join(to.state, name));
  const ids = readdirSync(join(state, SNAPSHOTS));
  mkdirSync(join(to.state, SNAPSHOTS));
  for (const id of ids) symlinkSync(join(state, SNAPSHOTS, id), join(to.state, SNAPSHOTS, id));
  return ids;
}
