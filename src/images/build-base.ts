/** Builds the base: a root file system from Debian's packages, as a read-only ext4 image. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { OnProgress } from "#base/progress.ts";
import { makeImageFromTar, makeImageFromTree } from "#host/mke2fs.ts";
import { runWithDeathSignal } from "#host/run-with-death-signal.ts";
import { HearthError } from "#base/error.ts";
import { describeBuildFailure } from "#images/build-failure.ts";
import { PackageProgress } from "#images/package-progress.ts";
import type { Recipe } from "#images/recipes.ts";

const TIMEOUT_MS = 30 * 60_000;

/** The dpkg rules of the image. They stay in it, so that packages which guests install are as small as its own. */
const DPKG_EXCLUDES = [
  "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright",
  "path-exclude=/usr/share/man/*",
  "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*",
].join("\\n");

/**
 * Shell lines for mmdebstrap; `$1` is the root file system. The excludes are applied between the essential packages and
 * the others: given to mmdebstrap itself, they send every archive through a filter that takes longer than all the rest.
 * So the essential packages' files are removed at the end.
 */
const ESSENTIAL_HOOK = `printf '${DPKG_EXCLUDES}\\n' > "$1/etc/dpkg/dpkg.cfg.d/hearth"`;
const CUSTOMIZE_HOOK = [
  "set -e",
  `find "$1/usr/share/doc" -type f ! -name copyright -delete`,
  `find "$1/usr/share/doc" -depth -type d -empty -delete`,
  `rm -rf "$1"/usr/share/man/* "$1"/usr/share/info/* "$1"/usr/share/locale/*`,
  // The options of the build, and files that mmdebstrap copied from the host.
  `rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1/etc/resolv.conf"`,
  `: > "$1/etc/resolv.conf"`,
  // mmdebstrap copied it from the host, with the host's mode.
  `echo debian > "$1/etc/hostname"`,
  `chmod 0644 "$1/etc/hostname"`,
  `printf '127.0.0.1\\tlocalhost\\n::1\\tlocalhost ip6-localhost ip6-loopback\\n' > "$1/etc/hosts"`,
  `printf 'Acquire::Languages "none";\\n' > "$1/etc/apt/apt.conf.d/hearth"`,
].join("; ");

export type BaseInput = {
  readonly recipe: Recipe;
  /** Lines of sources.list(5). */
  readonly sources: readonly string[];
  /** Lines of apt.conf(5) for reaching the mirror; they do not stay in the image. */
  readonly acquire: readonly string[];
  /** An existing directory that only hearthd uses. */
  readonly dir: string;
  readonly uuid: string;
};

/** Makes `base.ext4` in the directory. Returns the number of packages in it. */
export async function buildBase(
  input: BaseInput,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<number> {
  const isRoot = process.getuid?.() === 0;
  const { dir, recipe, uuid } = input;
  const root = join(dir, isRoot ? "root" : "root.tar");
  const packageCount = await bootstrap(input, root, isRoot, onProgress, signal);
  onProgress({ stage: "disk", text: "creating the disk image" });
  const image = join(dir, "base.ext4");
  try {
    await (isRoot ? makeImageFromTree : makeImageFromTar)(root, image, uuid, signal);
  } catch (error) {
    if (!(error instanceof HearthError)) throw error;
    throw describeBuildFailure(recipe.ref, error, error.cause instanceof Error ? error.cause.message : "");
  }
  return packageCount;
}

async function bootstrap(
  input: BaseInput,
  root: string,
  isRoot: boolean,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<number> {
  const { recipe } = input;
  const args = [
    `--mode=${isRoot ? "root" : "unshare"}`,
    `--format=${isRoot ? "directory" : "tar"}`,
    "--variant=minbase",
    "--verbose",
    // Device nodes would need root when the tar is unpacked; the guest mounts devtmpfs.
    "--skip=output/dev",
    `--include=${recipe.packages.join(",")}`,
    ...(await aptOptionArgs(input, isRoot)),
    // The whole image is synced when it is complete.
    "--dpkgopt=force-unsafe-io",
    `--essential-hook=${ESSENTIAL_HOOK}`,
    `--customize-hook=${CUSTOMIZE_HOOK}`,
    ...maskArgs(recipe.maskedUnits ?? []),
    `--customize-hook=grep -c '^Package: ' "$1/var/lib/dpkg/status" | sed 's/^/hearth-packages: /' >&2`,
    recipe.suite,
    root,
    "-",
  ];
  const progress = new PackageProgress(onProgress);
  const result = await runWithDeathSignal("mmdebstrap", args, {
    timeoutMs: TIMEOUT_MS,
    signal,
    // In its namespace the tool may have no right to see the current directory.
    cwd: "/",
    input: `${input.sources.join("\n")}\n`,
    onStderrLine: (line) => progress.line(line),
  });
  if (!result.ok) throw describeBuildFailure(recipe.ref, result.error, result.stderr);
  return Number(/^hearth-packages: (\d+)$/m.exec(result.stderr)?.[1] ?? 0);
}

/** Masks units as systemctl(1) does, which would have to run in the image. The names come from the recipe. */
function maskArgs(units: readonly string[]): string[] {
  return units.map(
    (unit) =>
      `--customize-hook=mkdir -p "$1/etc/systemd/system" && ln -sf /dev/null "$1/etc/systemd/system/${unit}"`,
  );
}

/**
 * Passes the options in a file if root, because they may contain a proxy's password, and other users see command lines.
 * In unshare mode the tool reads files as a user who may not enter the cache; there the lines are arguments.
 */
async function aptOptionArgs(input: BaseInput, isRoot: boolean): Promise<string[]> {
  if (!isRoot) return input.acquire.map((line) => `--aptopt=${line}`);
  if (input.acquire.length === 0) return [];
  const path = join(input.dir, "apt-options.conf");
  await writeFile(path, `${input.acquire.join("\n")}\n`, { mode: 0o600 });
  return [`--aptopt=${path}`];
}
