/** Names and checks of Firecracker's releases. Pure. */
import { HearthError } from "#base/error.ts";
import { parseFirecrackerVersion as parseVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { findFault } from "#drivers/firecracker/api/version-features.ts";

/** The oldest version that Hearth drives. */
export const FIRECRACKER_VERSION_MIN = "1.12.0";
/** GitHub's pages of the releases; `release_url` in config.toml names another place with the same layout. */
export const RELEASE_URL = "https://github.com/firecracker-microvm/firecracker/releases";

export const FIRECRACKER_PROGRAMS = ["firecracker", "jailer"] as const;
export type FirecrackerProgram = (typeof FIRECRACKER_PROGRAMS)[number];
export type FirecrackerArchitecture = "x86_64" | "aarch64";

/** Known checksums of the programs themselves, by version and CPU. */
const PINNED: Readonly<Record<string, Readonly<Record<FirecrackerProgram, string>>>> = {
  "1.12.1 x86_64": {
    firecracker: "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930",
    jailer: "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5",
  },
};

export type FirecrackerRelease = {
  readonly version: string;
  readonly archiveName: string;
  readonly archiveUrl: string;
  readonly sumUrl: string;
  /** The paths of the programs in the archive. */
  readonly members: Readonly<Record<FirecrackerProgram, string>>;
  /** The checksums that the programs must have, where they are known. */
  readonly pinned: Readonly<Record<FirecrackerProgram, string>> | undefined;
};

/** @param baseUrl a place with the layout of `RELEASE_URL` */
export function firecrackerRelease(
  version: string,
  architecture: FirecrackerArchitecture,
  baseUrl: string,
): FirecrackerRelease {
  const name = `v${version}-${architecture}`;
  const archiveName = `firecracker-${name}.tgz`;
  const archiveUrl = `${baseUrl.replace(/\/+$/, "")}/download/v${version}/${archiveName}`;
  return {
    version,
    archiveName,
    archiveUrl,
    sumUrl: `${archiveUrl}.sha256.txt`,
    members: {
      firecracker: `release-${name}/firecracker-${name}`,
      jailer: `release-${name}/jailer-${name}`,
    },
    pinned: PINNED[`${version} ${architecture}`],
  };
}

/**
 * Parses `v1.12.1` or `1.12.1`: at least `FIRECRACKER_VERSION_MIN`, and no version that breaks VMs.
 * @throws HearthError `input.invalid`
 */
export function parseFirecrackerVersion(text: string): string {
  const version = /^v?((?:0|[1-9]\d{0,4})(?:\.(?:0|[1-9]\d{0,4})){2})$/.exec(text)?.[1];
  if (version === undefined) {
    throw new HearthError(
      "input.invalid",
      `version: ${JSON.stringify(text)} is not a version of Firecracker.`,
      {
        hint: "Write three numbers, such as 1.12.1.",
      },
    );
  }
  const refusal = refusalOf(version);
  if (refusal === undefined) return version;
  throw new HearthError("input.invalid", `version: ${refusal.message}`, { hint: refusal.hint });
}

/** Returns why Hearth does not drive this version, with the versions to use instead; undefined when it does. */
export function refusalOf(version: string): HearthError | undefined {
  if (compareVersions(version, FIRECRACKER_VERSION_MIN) < 0) {
    return new HearthError("feature.missing", `Firecracker ${version} is too old.`, {
      hint: `Hearth needs ${FIRECRACKER_VERSION_MIN} or newer.`,
    });
  }
  return findFault(parseVersion(version), "vm");
}

/** Returns the version of a page `…/tag/v1.12.1`, to which `…/latest` redirects; undefined for other pages. */
export function versionOfTagPage(url: URL): string | undefined {
  return /\/tag\/v(\d+\.\d+\.\d+)$/.exec(url.pathname)?.[1];
}

/** Returns a negative number when `a` is older. A development build is compared as the release of its numbers. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.replace(/-.*$/, "").split(".").map(Number));
  for (let index = 0; index < 3; index++) {
    const difference = (left?.[index] ?? 0) - (right?.[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** @returns the 64 hex digits that a `*.sha256.txt` has for the file. @throws Error when it has none */
export function readSumFile(text: string, fileName: string): string {
  for (const line of text.split("\n")) {
    const [, sum, name] = /^([0-9a-f]{64})[ \t]+\*?(?:\.\/)?(\S+)\s*$/i.exec(line) ?? [];
    if (sum !== undefined && name === fileName) return sum.toLowerCase();
  }
  throw new Error(`the published checksums do not include ${fileName}`);
}
