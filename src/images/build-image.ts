import { join } from "node:path";
import type { OnProgress } from "#base/progress.ts";
import { readAptSources } from "#host/apt-sources.ts";
import { readAcquireOptions } from "#host/apt.ts";
import { syncPath } from "#host/atomic-file.ts";
import { requirePrograms } from "#host/find-program.ts";
import { hashFile } from "#host/hash-file.ts";
import { buildBase } from "#images/build-base.ts";
import { buildKernel } from "#images/build-kernel.ts";
import { planDebianSources } from "#images/debian-sources.ts";
import type { Architecture, KernelManifest, ManifestFile } from "#images/manifest.ts";
import type { Recipe } from "#images/recipes.ts";
import { uuidFor } from "#images/uuid-for.ts";

export type BuildInput = {
  readonly recipe: Recipe;
  readonly architecture: Architecture;
  /** An empty directory that only hearthd uses. */
  readonly dir: string;
};

/**
 * The files in the directory are `base.ext4`, and `kernel/` with the files of its manifest. All others are temporary.
 */
export type BuiltImage = {
  readonly base: ManifestFile;
  readonly kernel: KernelManifest;
  readonly packageCount: number;
};

export type BuildImage = (
  input: BuildInput,
  onProgress: OnProgress,
  signal: AbortSignal,
) => Promise<BuiltImage>;

export const BASE_NAME = "base.ext4";

/** Checked first: a build that is nearly complete must not fail because a tool is missing. */
const PROGRAMS = [
  "mmdebstrap",
  "apt-get",
  "apt-cache",
  "apt-config",
  "dpkg-deb",
  "depmod",
  "xz",
  "du",
  "mke2fs",
];

/**
 * Builds an image of Debian. Base and kernel are built at the same time: one mostly computes, the other downloads.
 * @throws HearthError `image.build_failed`, `host.tool_missing`, `host.disk_full`, `host.read_only`
 */
export const buildImage: BuildImage = async ({ recipe, architecture, dir }, onProgress, signal) => {
  const isRoot = process.getuid?.() === 0;
  requirePrograms([...PROGRAMS, ...(isRoot ? [] : ["newuidmap", "tar"])]);
  const sources = planDebianSources(readAptSources(), recipe.suite);
  const acquire = await readAcquireOptions(signal);
  // Ended together: after a failure of one, the other must not write into the directory any more.
  const other = new AbortController();
  const both = AbortSignal.any([signal, other.signal]);
  const input = { dir, sources, acquire };
  const parts = [
    buildBase({ ...input, recipe, uuid: uuidFor(`file system of ${recipe.ref}`) }, onProgress, both),
    buildKernel({ ...input, ref: recipe.ref, architecture }, onProgress, both),
  ] as const;
  for (const part of parts) part.catch((error: unknown) => other.abort(error));
  const [base, kernel] = await Promise.allSettled(parts);
  if (other.signal.aborted) throw other.signal.reason;
  if (base.status === "rejected") throw base.reason;
  if (kernel.status === "rejected") throw kernel.reason;
  const image = join(dir, BASE_NAME);
  await syncPath(image);
  const hash = await hashFile(image, signal);
  return { base: { name: BASE_NAME, ...hash }, kernel: kernel.value, packageCount: base.value };
};
