/**
 * Runs apt with a separate state: the host's lists, caches and installed packages are neither read nor changed. It
 * therefore needs no root, and can use a suite that is not the host's.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { runWithDeathSignalOrThrow } from "#host/run-with-death-signal.ts";
import type { RunOptions } from "#host/run.ts";

const UPDATE_TIMEOUT_MS = 300_000;
const DOWNLOAD_TIMEOUT_MS = 600_000;
const QUERY_TIMEOUT_MS = 60_000;
/** The options of the host's configuration that are used: how to reach and trust the mirror, mostly proxies. */
const KEPT = /^Acquire::(?:https?|ForceIPv[46]|Retries|Check-Valid-Until|Check-Date)\b/;

export type PrivateApt = {
  /** The value of APT_CONFIG. */
  readonly configPath: string;
  readonly downloadDir: string;
};

/** Returns the host's options for reaching mirrors, as lines of apt.conf(5). They may contain a proxy's password. */
export async function readAcquireOptions(signal: AbortSignal): Promise<string[]> {
  const dump = await runWithDeathSignalOrThrow("apt-config", ["dump"], {
    timeoutMs: QUERY_TIMEOUT_MS,
    signal,
  });
  return dump.split("\n").filter((line) => KEPT.test(line) && !line.endsWith(' "";'));
}

/**
 * Writes the configuration of a private apt.
 * @param dir is made if it is missing
 * @param sources lines of sources.list(5)
 */
export async function makePrivateApt(
  dir: string,
  sources: readonly string[],
  acquire: readonly string[],
): Promise<PrivateApt> {
  const path = (name: string): string => join(dir, name);
  for (const name of ["lists/partial", "cache/archives/partial", "download"]) {
    await mkdir(path(name), { recursive: true });
  }
  await writeFile(path("status"), "");
  await writeFile(path("sources.list"), `${sources.join("\n")}\n`);
  const options = {
    "Dir::Etc::parts": "/dev/null",
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::sourcelist": path("sources.list"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Dir::State": dir,
    "Dir::State::lists": path("lists"),
    "Dir::State::status": path("status"),
    "Dir::Cache": path("cache"),
    "Acquire::Languages": "none",
    // Only hearthd may write to the directory, and apt's own user could not.
    "APT::Sandbox::User": "",
  };
  const lines = Object.entries(options).map(([name, value]) => `${name} ${JSON.stringify(value)};`);
  const configPath = path("apt.conf");
  await writeFile(configPath, `${[...lines, ...acquire].join("\n")}\n`, { mode: 0o600 });
  return { configPath, downloadDir: path("download") };
}

/**
 * Fetches the lists of all sources.
 * @throws HearthError `host.tool_failed` if one cannot be fetched
 */
export async function aptUpdate(apt: PrivateApt, signal: AbortSignal): Promise<void> {
  // Without this, an unreachable mirror is a warning, and the later failure says less.
  const args = ["-o", "APT::Update::Error-Mode=any", "update"];
  await runWithDeathSignalOrThrow("apt-get", args, runOptions(apt, UPDATE_TIMEOUT_MS, signal));
}

/** Returns the fields of the package's first record: the candidate, since there is one suite. */
export async function aptShow(
  apt: PrivateApt,
  name: string,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const args = ["show", "--no-all-versions", name];
  return parseRecord(
    await runWithDeathSignalOrThrow("apt-cache", args, runOptions(apt, QUERY_TIMEOUT_MS, signal)),
  );
}

/** Downloads a package into the download directory. apt verifies it against the signed lists. */
export async function aptDownload(apt: PrivateApt, name: string, signal: AbortSignal): Promise<void> {
  await runWithDeathSignalOrThrow("apt-get", ["download", name], {
    ...runOptions(apt, DOWNLOAD_TIMEOUT_MS, signal),
    cwd: apt.downloadDir,
  });
}

/**
 * Returns the fields of the first record, without folded lines.
 * @throws HearthError if there is no record
 */
export function parseRecord(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of (text.split(/\n\n/)[0] ?? "").split("\n")) {
    const match = /^([A-Za-z0-9-]+):\s*(.*)$/.exec(line);
    if (match !== null) fields.set(match[1] ?? "", match[2] ?? "");
  }
  if (fields.size === 0) throw new HearthError("host.tool_failed", "apt does not know this package.");
  return fields;
}

function runOptions(apt: PrivateApt, timeoutMs: number, signal: AbortSignal): RunOptions {
  return { timeoutMs, signal, env: { APT_CONFIG: apt.configPath } };
}
