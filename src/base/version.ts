/** Hearth's own version, from the package's manifest, which lies two directories up here and in what is published. */
export function hearthVersion(): string {
  const { readFileSync } = process.getBuiltinModule("node:fs");
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { readonly version: string }).version;
}
