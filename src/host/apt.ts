/**
 * apt with a state of its own: the host's lists, caches and installed packages are neither read nor
 * changed, so it needs no root, and can look at a suite that is not the host's.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { runBoundOrThrow } from "#host/run-bound.ts";
import type { RunOptions } from "#host/run.ts";

const UPDATE_TIMEOUT_MS = 300_000;
const DOWNLOAD_TIMEOUT_MS = 600_000;
const QUERY_TIMEOUT_MS = 60_000;
/** Of the host's configuration only what says how to reach and trust the mirror is kept: proxies, mostly. */
const KEPT = /^Acquire::(?:https?|ForceIPv[46]|Retries|Check-Valid-Until|Check-Date)\b/;

export type PrivateApt = {
  /** The file for APT_CONFIG. */
  readonly configPath: string;
  readonly downloadDir: string;
};

/** The host's own options for reaching mirrors, as lines of apt.conf(5). They may hold a proxy's password. */
export async function readAcquireOptions(signal: AbortSignal): Promise<string[]> {
  const dump = await runBoundOrThrow("apt-config", ["dump"], { timeoutMs: QUERY_TIMEOUT_MS, signal });
  return dump.split("\n").filter((line) => KEPT.test(line) && !line.endsWith(' "";'));
}

/** @param sources lines of sources.list(5). @param dir made if it is missing. */
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
    // The directory is ours alone, so apt's own user cannot write there.
    "APT::Sandbox::User": "",
  };
  const lines = Object.entries(options).map(([name, value]) => `${name} ${JSON.stringify(value)};`);
  const configPath = path("apt.conf");
  await writeFile(configPath, `${[...lines, ...acquire].join("\n")}\n`, { mode: 0o600 });
  return { configPath, downloadDir: path("download") };
}

/** Fetches the lists of all sources. @throws HearthError `host.tool_failed` if one cannot be had. */
export async function aptUpdate(apt: PrivateApt, signal: AbortSignal): Promise<void> {
  // Without this a mirror that cannot be reached is a warning, and the failure comes later and says less.
  const args = ["-o", "APT::Update::Error-Mode=any", "update"];
  await runBoundOrThrow("apt-get", args, runOptions(apt, UPDATE_TIMEOUT_MS, signal));
}

/** The first record of the package, by field; the candidate's, since there is one suite. */
export async function aptShow(
  apt: PrivateApt,
  name: string,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const args = ["show", "--no-all-versions", name];
  return parseRecord(await runBoundOrThrow("apt-cache", args, runOptions(apt, QUERY_TIMEOUT_MS, signal)));
}

/** Into the download directory. Verified by apt against the signed lists. */
export async function aptDownload(apt: PrivateApt, name: string, signal: AbortSignal): Promise<void> {
  await runBoundOrThrow("apt-get", ["download", name], {
    ...runOptions(apt, DOWNLOAD_TIMEOUT_MS, signal),
    cwd: apt.downloadDir,
  });
}

/** The fields of the first record; folded lines are left out. @throws HearthError when there is none. */
export function parseRecord(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of (text.split(/\n\n/)[0] ?? "").split("\n")) {
    const match = /^([A-Za-z0-9-]+):\s*(.*)$/.exec(line);
    if (match !== null) fields.set(match[1] ?? "", match[2] ?? "");
  }
  if (fields.size === 0) throw new HearthError("host.tool_failed", "apt knows no such package.");
  return fields;
}

function runOptions(apt: PrivateApt, timeoutMs: number, signal: AbortSignal): RunOptions {
  return { timeoutMs, signal, env: { APT_CONFIG: apt.configPath } };
}
