/**
 * Returns Hearth's version from the package's manifest, two directories above this file in the checkout and in the
 * published package.
 */
export function hearthVersion(): string {
  const { readFileSync } = process.getBuiltinModule("node:fs");
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { readonly version: string }).version;
}
