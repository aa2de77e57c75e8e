/** The package as somebody who installs it gets it: nothing of the checkout is within its reach. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { run } from "#host/run.ts";
import { buildPackage } from "./build.ts";
import { ROOT } from "./source-files.ts";

const STEP_TIMEOUT_MS = 90_000;
/** Compiles only when the package brings its types: without them everything would be `any`. */
const CONSUMER = `
import { Hearth, type Vm } from "hearthd";
export const client: Promise<Hearth> = Hearth.connect();
export const nameOf = (vm: Vm): string => vm.name;
// @ts-expect-error There is no such method.
export const wrong = Hearth.disconnectAll();
`;

let scratch = "";
let installed = "";
let agentsAreBuilt = false;

before(async (t) => {
  const signal = "signal" in t ? t.signal : AbortSignal.timeout(STEP_TIMEOUT_MS);
  scratch = await mkdtemp(join(tmpdir(), "hearth-package-"));
  agentsAreBuilt = existsSync(join(ROOT, "build/agent/hearth-agent-aarch64"));
  await buildPackage({ outDir: join(scratch, "dist"), withAgents: agentsAreBuilt }, signal);
  await inScratch("npm", ["pack", "--silent", "./dist"], signal);
  const tarball = (await readdir(scratch)).find((name) => name.endsWith(".tgz")) ?? "no tarball";
  await installLocked(join(scratch, "node_modules"));
  installed = join(scratch, "node_modules/hearthd");
  await mkdir(installed);
  await inScratch("tar", ["-xzf", tarball, "-C", installed, "--strip-components=1"], signal);
});

after(() => rm(scratch, { recursive: true, force: true }));

async function inScratch(file: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  const env = {
    PATH: `${dirname(process.execPath)}:${process.env["PATH"]}`,
    HEARTH_HOME: join(scratch, "home"),
    npm_config_cache: join(scratch, "npm"),
  };
  const result = await run(file, args, { cwd: scratch, env, timeoutMs: STEP_TIMEOUT_MS, signal });
  if (!result.ok) throw new Error(`${result.stdout}\n${result.stderr}`, { cause: result.error });
  return result.stdout;
}

/** Links what npm would install beside the package, taken from the checkout: the same versions, and no network. */
async function installLocked(dir: string): Promise<void> {
  const lock: unknown = JSON.parse(await readFile(join(ROOT, "package-lock.json"), "utf8"));
  const { packages } = lock as { packages: Record<string, { dev?: boolean }> };
  for (const [path, { dev }] of Object.entries(packages)) {
    const name = path.replace(/^node_modules\//, "");
    // A directory that is inside another package comes with that package.
    if (path === "" || dev === true || name.includes("node_modules/")) continue;
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await symlink(join(ROOT, path), join(dir, name));
  }
}

test("an installed hearth says its version", async (t) => {
  const manifest: unknown = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  const said = await inScratch(join(installed, "bin/hearth.js"), ["version"], t.signal);
  assert.ok(said.includes((manifest as { version: string }).version), said);
});

test("an installed hearth leaves flags of the guest's command to it", async (t) => {
  const preload = join(scratch, "preload.cjs");
  await writeFile(preload, "process.stdout.write('code of the file ran on the host');\n");
  await writeFile(join(scratch, "env"), `NODE_OPTIONS=--require=${preload}\n`);
  const said = await inScratch(
    join(installed, "bin/hearth.js"),
    ["run", "--help", `--env-file=${join(scratch, "env")}`],
    t.signal,
  );
  assert.match(said, /^Usage|^hearth run|run/);
  assert.doesNotMatch(said, /ran on the host/);
});

test("a program that installed it can import the client, with its types", async (t) => {
  await writeFile(join(scratch, "package.json"), `{ "type": "module" }`);
  await writeFile(join(scratch, "consumer.ts"), CONSUMER);
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  const types = join(ROOT, "node_modules/@types");
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "esnext"];
  await inScratch(
    process.execPath,
    [tsc, ...options, "--types", "node", "--typeRoots", types, "consumer.ts"],
    t.signal,
  );
  const script = `import { Hearth } from "hearthd"; console.log(typeof Hearth)`;
  const said = await inScratch(process.execPath, ["--input-type=module", "--eval", script], t.signal);
  assert.equal(said, "function\n");
});

test("the package brings the licence and no tests, sources or dependencies of the checkout", async () => {
  const files = await readdir(installed, { recursive: true });
  assert.ok(files.includes("LICENSE"));
  const orphan = files.filter((path) =>
    /\.test\.|(?<!\.d)\.ts$|^src\/testing|^tools|^node_modules/.test(path),
  );
  assert.deepEqual(orphan, []);
  const manifest = await readFile(join(installed, "package.json"), "utf8");
  assert.doesNotMatch(manifest, /devDependencies|"scripts"/);
});

test("the package brings the agents for x86_64 and aarch64", async (t) => {
  if (!agentsAreBuilt) return t.skip("the agents are not built; make build and make test build them");
  for (const arch of ["x86_64", "aarch64"]) {
    const start = (await readFile(join(installed, "build/agent", `hearth-agent-${arch}`))).subarray(0, 20);
    assert.equal(start.toString("latin1", 1, 4), "ELF");
    // e_machine of the ELF header: EM_X86_64 or EM_AARCH64.
    assert.equal(start.readUInt16LE(18), arch === "x86_64" ? 62 : 183);
  }
});
