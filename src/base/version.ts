import { createRequire } from "node:module";

/** Hearth's own version, from the package's manifest, which lies two folders up here and in what is published. */
export function hearthVersion(): string {
  const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
  return version;
}
