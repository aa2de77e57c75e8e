/** The releases in the cache: `firecracker/<version>/{firecracker,jailer,manifest.json}`, complete or absent. */
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { CACHE_NAMES } from "#base/file-names.ts";
import { z } from "zod";
import { compareVersions } from "#drivers/firecracker/install/firecracker-release.ts";
import type { ProgramSums } from "#drivers/firecracker/install/unpack-release.ts";

const MANIFEST = "manifest.json";
const sum = z.string().regex(/^[0-9a-f]{64}$/);
const manifest = z.strictObject({
  schemaVersion: z.literal(1),
  version: z.string(),
  architecture: z.string(),
  /** The source of the release, and the checksum of that file. */
  archiveUrl: z.string(),
  archiveSha256: sum,
  /** The checksums that the programs must still have. */
  sha256: z.strictObject({ firecracker: sum, jailer: sum }),
  /** True where Hearth's source code has the programs' checksums. */
  pinned: z.boolean(),
  installedAtMs: z.int(),
});

export type InstalledManifest = z.infer<typeof manifest>;

export type InstalledRelease = {
  readonly version: string;
  readonly dir: string;
  /** Undefined when the manifest is missing or cannot be read: then the programs cannot be verified. */
  readonly sums: ProgramSums | undefined;
};

export function firecrackerDir(cacheDir: string): string {
  return join(cacheDir, CACHE_NAMES.firecracker);
}

/** Returns the text of a manifest, with the version of its schema. */
export function formatInstalledManifest(content: Omit<InstalledManifest, "schemaVersion">): string {
  return `${JSON.stringify({ schemaVersion: 1, ...content }, null, 2)}\n`;
}

/** The name of the manifest in a release's directory. */
export const INSTALLED_MANIFEST = MANIFEST;

/** Returns the installed releases, newest first. */
export async function listInstalledReleases(cacheDir: string): Promise<InstalledRelease[]> {
  const root = firecrackerDir(cacheDir);
  const names = await namesIn(root);
  const versions = names
    .filter((name) => /^\d+\.\d+\.\d+$/.test(name))
    .toSorted(compareVersions)
    .toReversed();
  return Promise.all(
    versions.map(async (version) => {
      const dir = join(root, version);
      return { version, dir, sums: await readSums(join(dir, MANIFEST)) };
    }),
  );
}

async function readSums(path: string): Promise<ProgramSums | undefined> {
  try {
    const parsed = manifest.safeParse(JSON.parse(await readFile(path, "utf8")));
    return parsed.success ? parsed.data.sha256 : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function namesIn(dir: string): Promise<string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
