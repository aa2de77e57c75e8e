/**
 * Makes the npm package in `dist/`: JavaScript with types, the guest agents for both machines, docs and licence.
 *
 * Its directories are those of the checkout, so that code which looks for its neighbours (`../build/agent`,
 * `../../package.json`) finds them in both.
 */
import { chmod, cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { existsSync, globSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join, relative } from "node:path";
import { run } from "#host/run.ts";

const ROOT = join(import.meta.dirname, "..");
const AGENTS = ["hearth-agent", "hearth-netns", "hearth-resolver", "hearth-uplink"].flatMap((name) => [
  `${name}-x86_64`,
  `${name}-aarch64`,
]);
const DOCUMENTS = ["README.md", "CHANGELOG.md", "LICENSE", "docs"];
const FOR_TESTS = ["src/**/*.test.ts", "src/testing/**"];
const COMPILE_TIMEOUT_MS = 120_000;

type Manifest = Readonly<Record<string, unknown>> & { readonly bin: Readonly<Record<string, string>> };

export type BuildOptions = {
  /** Removed first. */
  readonly outDir: string;
  /** Without them the package can do all but start VMs; for tests of the rest. */
  readonly withAgents: boolean;
};

/** @throws Error when the types are wrong or an agent has not been built. */
export async function buildPackage({ outDir, withAgents }: BuildOptions, signal: AbortSignal): Promise<void> {
  await rm(outDir, { recursive: true, force: true });
  await mkdir(outDir, { recursive: true });
  await writeDeclarations(outDir, signal);
  for (const path of globSync(["bin/*.ts", "src/**/*.ts"], { cwd: ROOT, exclude: FOR_TESTS })) {
    await writeJavaScript(path, outDir);
  }
  const manifest = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as Manifest;
  const published = publishedManifest(manifest);
  await writeFile(join(outDir, "package.json"), `${JSON.stringify(published, undefined, 2)}\n`);
  for (const program of Object.values(published.bin)) await chmod(join(outDir, program), 0o755);
  for (const name of DOCUMENTS.filter((document) => existsSync(join(ROOT, document)))) {
    await cp(join(ROOT, name), join(outDir, name), { recursive: true });
  }
  if (withAgents) await copyAgents(join(outDir, "build/agent"));
}

async function writeDeclarations(outDir: string, signal: AbortSignal): Promise<void> {
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const args = [tsc, "-p", join(ROOT, "tools/tsconfig.build.json"), "--outDir", outDir];
  const result = await run(process.execPath, args, { cwd: ROOT, timeoutMs: COMPILE_TIMEOUT_MS, signal });
  // The compiler writes what it has to say to stdout.
  if (!result.ok)
    throw new Error(`the compiler refused the sources:\n${result.stdout}`, { cause: result.error });
}

/**
 * What Node does itself when it runs the checkout: types become blanks, so that lines and columns in a stack
 * trace of the package are those of the source.
 */
async function writeJavaScript(path: string, outDir: string): Promise<void> {
  const source = await readFile(join(ROOT, path), "utf8");
  const code = stripTypeScriptTypes(source).replace(/((?:from|import\() ?"\.{1,2}\/[^"]+)\.ts"/g, '$1.js"');
  const target = join(outDir, compiled(path));
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, code);
}

/** Returns the manifest that npm shows and Node reads; what only a checkout needs is left out. */
function publishedManifest(manifest: Manifest): Manifest {
  const { scripts: _, devDependencies: __, allowScripts: ___, ...kept } = manifest;
  return {
    ...kept,
    bin: Object.fromEntries(Object.entries(manifest.bin).map(([name, path]) => [name, compiled(path)])),
    exports: { ".": { types: "./src/sdk/hearth.d.ts", default: "./src/sdk/hearth.js" } },
    // Imports of `#layer/file.ts` stay as they are written.
    imports: { "#*.ts": { types: "./src/*.d.ts", default: "./src/*.js" } },
    os: ["linux"],
  };
}

function compiled(path: string): string {
  return path.replace(/\.ts$/, ".js");
}

async function copyAgents(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  for (const name of AGENTS) {
    const built = join(ROOT, "build/agent", name);
    if (!existsSync(built))
      throw new Error(`${relative(ROOT, built)} is not there: sh tools/build-agent.sh builds it.`);
    await cp(built, join(dir, name));
    await chmod(join(dir, name), 0o755);
  }
}

if (import.meta.main) {
  const outDir = join(ROOT, "dist");
  await buildPackage({ outDir, withAgents: true }, AbortSignal.timeout(COMPILE_TIMEOUT_MS));
  console.log(`The package is in ${relative(process.cwd(), outDir)}. Next: npm pack ./dist`);
}
