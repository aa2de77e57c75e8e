import { HearthError } from "#base/error.ts";

export type FirecrackerVersion = {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** The version as Firecracker reports it, without the "v": "1.12.1", "1.17.0-dev". */
  readonly text: string;
};

/** The oldest version that Hearth was made for and tested with. */
export const FIRECRACKER_VERSION_MIN = "1.12.0";

const VERSION = /\bv?((\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:-[0-9A-Za-z.-]+)?)/;

/**
 * Parses the answer of `GET /version` ("1.12.1"), the output of `firecracker --version` ("Firecracker v1.12.1" and more
 * lines), or a tag. A suffix ("-dev", git's description) is ignored: such a build has the features of
 * its numbers.
 * @throws HearthError `vmm.failed` when there is no version in `text`
 */
export function parseFirecrackerVersion(text: string): FirecrackerVersion {
  const [, said, major, minor, patch] = VERSION.exec(text) ?? [];
  if (said === undefined) {
    const shown = JSON.stringify(text.trim().slice(0, 100));
    throw new HearthError("vmm.failed", `Firecracker's version cannot be read from ${shown}.`);
  }
  return { major: Number(major), minor: Number(minor), patch: Number(patch), text: said };
}

/** Compares the three numbers. `least` is a version such as "1.14.0". */
export function isAtLeast(version: FirecrackerVersion, least: string): boolean {
  const { major, minor, patch } = parseFirecrackerVersion(least);
  return (version.major - major || version.minor - minor || version.patch - patch) >= 0;
}

/** Tells whether it is `patch`, such as "1.14.4", or a later patch release of the same minor version. */
export function isOfBranch(version: FirecrackerVersion, patch: string): boolean {
  const { major, minor } = parseFirecrackerVersion(patch);
  return version.major === major && version.minor === minor && isAtLeast(version, patch);
}
