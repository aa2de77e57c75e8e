/**
 * Installs Firecracker and its jailer from a release into the cache:
 *
 *     version ─ lock ─ installed and intact? ─ yes ───────────────────────────┐
 *        └ no ─ published sum ─ archive ─ equal? ─ unpack ─ pinned? ─ rename ─┴─ asked for its version
 */
import { randomBytes } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CACHE_NAMES } from "#base/file-names.ts";
import { withCleanUp } from "#base/clean-up.ts";
import { HearthError, toError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import {
  FIRECRACKER_PROGRAMS,
  firecrackerRelease,
  parseFirecrackerVersion,
  readSumFile,
  versionOfTagPage,
} from "#drivers/firecracker/install/firecracker-release.ts";
import type {
  FirecrackerArchitecture,
  FirecrackerRelease,
} from "#drivers/firecracker/install/firecracker-release.ts";
import {
  firecrackerDir,
  formatInstalledManifest,
  INSTALLED_MANIFEST,
  listInstalledReleases,
} from "#drivers/firecracker/install/installed-releases.ts";
import { inspectProgram } from "#drivers/firecracker/install/inspect-program.ts";
import { unpackRelease } from "#drivers/firecracker/install/unpack-release.ts";
import type { ProgramSums } from "#drivers/firecracker/install/unpack-release.ts";
import { syncPath } from "#host/atomic-file.ts";
import { downloadFile, downloadText, followRedirects } from "#host/download.ts";
import { waitFileLock } from "#host/file-lock.ts";
import { hashFile } from "#host/hash-file.ts";
import { removeTree } from "#host/managed-path.ts";

/** The releases had 5 to 60 MB so far. */
const ARCHIVE_MAX_BYTES = 256 * 1024 * 1024;
const SUM_FILE_MAX_BYTES = 64 * 1024;
const DEADLINE_MS = 30 * 60_000;
const STALL_MS = 30_000;
/**
 * The name of the lock, and the prefix of staging directories in `tmp`, which a hearthd removes at its start unless the
 * lock is taken.
 */
const LOCK = "firecracker";

export type InstallOptions = {
  readonly cacheDir: string;
  /** A place like `RELEASE_URL`. */
  readonly releaseUrl: string;
  readonly architecture: FirecrackerArchitecture;
  /** The time without a byte after which a download fails. Default 30 s. */
  readonly stallMs?: number | undefined;
};

export type Installation = {
  readonly version: string;
  readonly program: string;
  readonly jailer: string;
  /** False when it was installed already. */
  readonly fresh: boolean;
};

/**
 * Installs a release, once even if several callers or processes ask at the same time. Installed releases keep working
 * whatever fails. No file is run before its checksum was verified.
 * @param version undefined for the newest
 * @throws HearthError `input.invalid`, `download.failed`, `vmm.install_failed`, `host.disk_full`
 */
export async function installFirecracker(
  options: InstallOptions,
  version: string | undefined,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<Installation> {
  const wanted = version === undefined ? undefined : parseFirecrackerVersion(version);
  const release = firecrackerRelease(
    wanted ?? (await newestVersion(options, onProgress, signal)),
    options.architecture,
    options.releaseUrl,
  );
  const { cacheDir } = options;
  const [tmp, locks] = [join(cacheDir, CACHE_NAMES.staging), join(cacheDir, CACHE_NAMES.locks)];
  for (const dir of [firecrackerDir(cacheDir), tmp, locks])
    await mkdir(dir, { recursive: true, mode: 0o700 });
  const onWait = (): void => tell(onProgress, "waiting for another installation");
  using locked = new DisposableStack();
  locked.use(await waitFileLock(join(locks, `${LOCK}.lock`), onWait, signal));
  const target = join(firecrackerDir(cacheDir), release.version);
  const fresh = !(await isWhole(cacheDir, release.version, signal));
  if (fresh) {
    const staging = join(tmp, `${LOCK}~${randomBytes(6).toString("hex")}`);
    await mkdir(staging, { mode: 0o700 });
    const install = async (): Promise<void> => {
      const sums = await prepare(options, release, staging, onProgress, signal);
      await putInPlace(join(staging, "release"), target, staging);
      await confirm(release, target, sums, staging, signal);
    };
    await withCleanUp(install, () => removeTree(tmp, staging));
  }
  return {
    version: release.version,
    program: join(target, "firecracker"),
    jailer: join(target, "jailer"),
    fresh,
  };
}

async function newestVersion(
  { releaseUrl, stallMs }: InstallOptions,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<string> {
  tell(onProgress, "looking for the latest release");
  const url = `${releaseUrl.replace(/\/+$/, "")}/latest`;
  const limits = { maxBytes: SUM_FILE_MAX_BYTES, deadlineMs: DEADLINE_MS, stallMs: stallMs ?? STALL_MS };
  const page = await followRedirects(url, (at) => versionOfTagPage(at) !== undefined, limits, signal);
  return parseFirecrackerVersion(versionOfTagPage(page) ?? "");
}

/** Makes the verified directory `release` in `staging`. */
async function prepare(
  options: InstallOptions,
  release: FirecrackerRelease,
  staging: string,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<ProgramSums> {
  const { archiveName, archiveUrl } = release;
  const limits = { deadlineMs: DEADLINE_MS, stallMs: options.stallMs ?? STALL_MS };
  tell(onProgress, `downloading the checksum of ${archiveName}`);
  const sumText = await downloadText(release.sumUrl, { ...limits, maxBytes: SUM_FILE_MAX_BYTES }, signal);
  const published = guard(release, () => readSumFile(sumText, archiveName));
  const archive = join(staging, "archive");
  const onBytes = (doneBytes: number, totalBytes: number | undefined): void =>
    onProgress({ stage: "firecracker", text: `downloading ${archiveName}`, doneBytes, totalBytes });
  const got = await downloadFile(
    archiveUrl,
    archive,
    { ...limits, maxBytes: ARCHIVE_MAX_BYTES, onBytes },
    signal,
  );
  if (got.sha256 !== published)
    throw failed(release, `its sha256 is ${got.sha256}, but the published one is ${published}`);
  tell(onProgress, "unpacking the programs");
  const dir = join(staging, "release");
  await mkdir(dir, { mode: 0o755 });
  const sums = await unpackOrRefuse(archive, release, dir, signal);
  for (const program of FIRECRACKER_PROGRAMS) {
    const pinned = release.pinned?.[program];
    if (pinned !== undefined && pinned !== sums[program])
      throw failed(release, `the sha256 of ${program} is ${sums[program]}, but Hearth expects ${pinned}`);
  }
  const manifest = formatInstalledManifest({
    version: release.version,
    architecture: options.architecture,
    archiveUrl,
    archiveSha256: got.sha256,
    sha256: { ...sums },
    pinned: release.pinned !== undefined,
    installedAtMs: Date.now(),
  });
  await writeFile(join(dir, INSTALLED_MANIFEST), manifest);
  for (const path of [join(dir, INSTALLED_MANIFEST), dir]) await syncPath(path);
  return sums;
}

/** Moves the release to its place. A damaged one there is moved to the staging directory. */
async function putInPlace(from: string, target: string, staging: string): Promise<void> {
  try {
    await rename(target, join(staging, "older"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  await rename(from, target);
  await syncPath(dirname(target));
}

/** Runs the programs; moves a release away that does not run here, or has another version than its name. */
async function confirm(
  release: FirecrackerRelease,
  target: string,
  sums: ProgramSums,
  staging: string,
  signal: AbortSignal,
): Promise<void> {
  try {
    const found = [
      await inspectProgram(join(target, "firecracker"), "Firecracker", sums.firecracker, signal),
      await inspectProgram(join(target, "jailer"), "Jailer", sums.jailer, signal),
    ];
    const other = found.find(({ version }) => version !== release.version);
    if (other !== undefined) throw new Error(`${other.path} reports version ${other.version}.`);
  } catch (error) {
    await rename(target, join(staging, "refused"));
    await syncPath(dirname(target));
    signal.throwIfAborted();
    throw failed(release, "it does not work on this host", error);
  }
}

async function isWhole(cacheDir: string, version: string, signal: AbortSignal): Promise<boolean> {
  const found = (await listInstalledReleases(cacheDir)).find((one) => one.version === version);
  if (found?.sums === undefined) return false;
  try {
    for (const program of FIRECRACKER_PROGRAMS) {
      const { sha256 } = await hashFile(join(found.dir, program), signal);
      if (sha256 !== found.sums[program]) return false;
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function unpackOrRefuse(
  archive: string,
  release: FirecrackerRelease,
  dir: string,
  signal: AbortSignal,
): Promise<ProgramSums> {
  try {
    return await unpackRelease(archive, release, dir, signal);
  } catch (error) {
    signal.throwIfAborted();
    // Failures of the disk are not the archive's.
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    throw failed(release, "its archive is invalid", error);
  }
}

function guard<T>(release: FirecrackerRelease, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw failed(release, "its checksum cannot be read", error);
  }
}

function failed({ version }: FirecrackerRelease, reason: string, cause?: unknown): HearthError {
  return new HearthError("vmm.install_failed", `Cannot install Firecracker ${version}: ${reason}.`, {
    hint: "Nothing was changed. Try again later, or try another version with --version.",
    cause: cause === undefined ? undefined : toError(cause),
  });
}

function tell(onProgress: OnProgress, text: string): void {
  onProgress({ stage: "firecracker", text });
}
