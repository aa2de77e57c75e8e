/**
 * The QEMU that is tested beside the host's: Debian 12's 7.2 where the host has a newer one, and that of
 * bookworm-backports where the host's is older than 8.2. The two differ in how they map memory that was saved.
 *
 *   1. apt, with a state of its own, downloads the packages from the host's mirrors and verifies them.
 *   2. dpkg-deb unpacks them into the tests' cache. Nothing is installed.
 *   3. The program is asked for its version, which it answers only where the host's libraries fit.
 *
 * `node tools/second-qemu.ts` prints the program's path.
 */
import { existsSync, globSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { mapsReadOnly } from "#drivers/qemu/guest-memory.ts";
import { DEFAULT_QEMU, findQemuVersion } from "#drivers/qemu/installed-qemu.ts";
import { aptDownload, aptUpdate, makePrivateApt, readAcquireOptions } from "#host/apt.ts";
import { readAptSources } from "#host/apt-sources.ts";
import { run } from "#host/run.ts";
import { runWithDeathSignalOrThrow } from "#host/run-with-death-signal.ts";
import { planBackportsSource, planDebianSources } from "#images/debian-sources.ts";

export type SecondQemu =
  | { readonly ok: true; readonly program: string; readonly version: string }
  | { readonly ok: false; readonly reason: string };

/** Packages of QEMU in one Debian suite. */
type Build = { readonly name: string; readonly packages: readonly string[] };

const SUITE = "bookworm";
const COMMON = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
/** It looks for boot ROMs of network cards below its own prefix; the newer one in /usr, too. */
const OLDER: Build = { name: SUITE, packages: [...COMMON, "ipxe-qemu"] };
const NEWER: Build = { name: `${SUITE}-backports`, packages: COMMON };
const UNPACK_TIMEOUT_MS = 120_000;
const VERSION_TIMEOUT_MS = 20_000;

/**
 * Finds the second QEMU, or fetches it once. @throws HearthError when the mirrors cannot be reached or have no such
 * package, or when it does not run on the release that it was built for
 */
export async function findSecondQemu(cacheDir: string, signal: AbortSignal): Promise<SecondQemu> {
  const first = await findQemuVersion(DEFAULT_QEMU, signal);
  if (first === undefined) return { ok: false, reason: `${DEFAULT_QEMU} is not installed.` };
  if (process.arch !== "x64") return { ok: false, reason: `There is none for ${process.arch}.` };
  const build = secondBuild(first);
  const prefix = join(cacheDir, `qemu-${build.name}`);
  if (!existsSync(prefix)) await fetchQemu(build, cacheDir, prefix, signal);
  const program = join(prefix, "usr/bin", DEFAULT_QEMU);
  const answer = await run(program, ["--version"], { timeoutMs: VERSION_TIMEOUT_MS, signal });
  if (!answer.ok) {
    const reason = `The QEMU of ${build.name} does not run on this host: ${answer.stderr.trim()}`;
    // It was built for this very release; elsewhere the libraries may differ.
    if (isSuite(readFileSync("/etc/os-release", "utf8"))) throw new HearthError("host.tool_failed", reason);
    return { ok: false, reason };
  }
  const version = await findQemuVersion(program, signal);
  if (version !== undefined) return { ok: true, program, version };
  return { ok: false, reason: `${program} does not answer.` };
}

/** Pure. @param first the version of the host's own QEMU */
export function secondBuild(first: string): Build {
  return mapsReadOnly(first) ? OLDER : NEWER;
}

/** Pure. @param osRelease the text of os-release(5) */
export function isSuite(osRelease: string): boolean {
  return new RegExp(`^VERSION_CODENAME="?${SUITE}"?$`, "m").test(osRelease);
}

async function fetchQemu(
  { name, packages }: Build,
  cacheDir: string,
  prefix: string,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(cacheDir, { recursive: true });
  const staging = await mkdtemp(join(cacheDir, ".qemu-"));
  try {
    const host = readAptSources();
    const sources = name === SUITE ? planDebianSources(host, SUITE) : [planBackportsSource(host, SUITE)];
    const apt = await makePrivateApt(join(staging, "apt"), sources, await readAcquireOptions(signal));
    await aptUpdate(apt, signal);
    const tree = join(staging, "tree");
    for (const one of packages) await aptDownload(apt, one, signal);
    for (const file of globSync(join(apt.downloadDir, "*.deb")))
      await runWithDeathSignalOrThrow("dpkg-deb", ["-x", file, tree], {
        timeoutMs: UNPACK_TIMEOUT_MS,
        signal,
      });
    // Only complete ones have the name that is looked for. Another run may have been first.
    await rename(tree, prefix).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    });
  } catch (cause) {
    throw new HearthError("host.tool_failed", `The QEMU of ${name} cannot be fetched for the tests`, {
      hint: "Does a mirror in /etc/apt/sources.list have this suite? HEARTH_E2E_QEMU=host tests the host's alone.",
      cause,
    });
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Where e2e tests keep what they share. */
export function e2eCacheDir(): string {
  return process.env["HEARTH_E2E_CACHE"] ?? join(homedir(), ".cache", "hearth-e2e");
}

if (import.meta.main) {
  const found = await findSecondQemu(e2eCacheDir(), new AbortController().signal);
  console.log(found.ok ? found.program : found.reason);
  process.exitCode = found.ok ? 0 : 1;
}
