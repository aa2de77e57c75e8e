/** Tests which directory may import what. The comments are the reasons. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  findLines,
  importsOf,
  isForTests,
  readSources,
  readTypeScript,
  ROOT,
  type Source,
} from "./source-files.ts";

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  base: [], // Has no opinion about VMs.
  model: ["base"], // The nouns and their rules: pure.
  api: ["base", "model"], // The wire; no server, no client.
  host: ["base"], // Knows tools and kernel surfaces, not VMs.
  jail: ["base", "model", "host"], // Starts VMMs: with hearthd's rights for the drivers, with root's for the helper.
  helper: ["base", "model", "host", "jail"], // Runs as root: small enough to read in one sitting.
  // Siblings: what joins them is a flow of the daemon.
  guest: ["base", "model", "host"],
  images: ["base", "model", "host"],
  storage: ["base", "model", "host"],
  network: ["base", "model", "host"],
  drivers: ["base", "model", "host", "jail"],
  tenants: ["base", "model", "host"], // Plans, and never touches a VM.
  daemon: [
    "base",
    "model",
    "api",
    "host",
    "helper",
    "jail",
    "guest",
    "images",
    "storage",
    "network",
    "drivers",
    "tenants",
  ],
  sdk: ["base", "model", "api", "host/run.ts"], // What every program may use; it starts hearthd on first use.
  cli: ["base", "model", "api", "sdk"], // Can do nothing that the API cannot.
};

/** The most lines that the helper loads, comments and blank lines among them. */
const HELPER_MAX_LINES = 6_600;

/** The model does no I/O: of Node it may use what computes. */
const PURE_NODE_MODULES = new Set(["node:crypto", "node:path", "node:util", "node:net"]);

const sources = readTypeScript().filter(({ path }) => path.startsWith("src/") && !isForTests(path));

function layerOf(path: string): string {
  return path.split("/")[1] ?? "";
}

function importsOfLayers(source: Source): readonly string[] {
  return importsOf(source)
    .filter(({ from }) => from.startsWith("#"))
    .map(({ from }) => from.slice(1));
}

/** Files of src/api that load zod, by themselves or through each other. */
function filesThatLoadZod(): ReadonlySet<string> {
  const loading = new Set<string>();
  const api = readSources(["src/api/*.ts"]);
  for (let before = -1; before !== loading.size;) {
    before = loading.size;
    for (const source of api) {
      const loads = importsOf(source).some(
        ({ from, typeOnly }) => !typeOnly && (/\bzod\b|zod-openapi/.test(from) || loading.has(from)),
      );
      if (loads) loading.add(source.path.replace("src/", "#"));
    }
  }
  return loading;
}

test("directories import only what the layer table allows", () => {
  for (const source of sources) {
    const layer = layerOf(source.path);
    const allowed = MAY_IMPORT[layer];
    assert.ok(allowed, `${source.path}: "${layer}" is not in the table of layers`);
    const rules = [layer, ...allowed];
    for (const from of importsOfLayers(source)) {
      assert.ok(
        rules.some((rule) => `${from}/`.startsWith(`${rule}/`)),
        `${source.path}: ${layer} may not import #${from}`,
      );
    }
  }
});

test("files are imported by their #layer name, so that the table sees them", () => {
  for (const source of sources) {
    for (const { from } of importsOf(source)) {
      assert.ok(!from.startsWith("../"), `${source.path} imports ${from}: write #layer/file.ts`);
    }
  }
});

test("nothing but tests imports src/testing, and two programs that no package has", () => {
  // One writes down what the contract's suite promises, one measures hearthd beside more VMs than a machine can run.
  const programs = new Set(["tools/generate-drivers.ts", "bench/rows/recovery.ts"]);
  const others = readTypeScript().filter(({ path }) => !isForTests(path) && !programs.has(path));
  for (const source of others) {
    for (const { from } of importsOf(source)) {
      assert.doesNotMatch(from, /^#testing\/|src\/testing\//, source.path);
    }
  }
});

test("the SDK and the CLI take types only from the API files that load zod", () => {
  const loading = filesThatLoadZod();
  for (const source of sources.filter(({ path }) => /^src\/(sdk|cli)\//.test(path))) {
    for (const { from, typeOnly } of importsOf(source)) {
      const why = `${source.path}: zod costs every start 90 ms; write \`import type\` for ${from}`;
      assert.ok(typeOnly || !loading.has(from), why);
    }
  }
});

test("of the SDK one file starts hearthd, and nothing else of it reaches the host", () => {
  const reaching = sources.filter(
    (source) =>
      source.path.startsWith("src/sdk/") && importsOf(source).some(({ from }) => from.startsWith("#host/")),
  );
  assert.ok(reaching.length <= 1, reaching.map(({ path }) => path).join(", "));
  for (const { path, text } of reaching) {
    assert.match(
      text,
      /import \{ startDetached \} from "#host\/run\.ts"|await import\("#host\/run\.ts"\)/,
      path,
    );
  }
});

/** Returns what runs as root: the helper's program and all that it loads, types left out. */
function loadedByHelper(): readonly Source[] {
  const all = new Map(readTypeScript().map((source) => [source.path, source]));
  const loaded = new Set(["bin/hearth-helper.ts"]);
  for (const path of loaded) {
    const source = all.get(path);
    assert.ok(source, path);
    for (const { from, typeOnly } of importsOf(source))
      if (from.startsWith("#") && !typeOnly) loaded.add(from.replace("#", "src/"));
  }
  return [...loaded].map((path) => all.get(path)).filter((source) => source !== undefined);
}

test("the program that runs as root loads what its verbs need, and stays small enough to read", () => {
  const loaded = loadedByHelper();
  const layers = new Set(["base", "model", "host", "jail", "helper"]);
  for (const { path } of loaded)
    assert.ok(path.startsWith("bin/") || layers.has(layerOf(path)), `the helper loads ${path}`);
  const packages = loaded
    .flatMap(importsOf)
    .filter(({ from, typeOnly }) => !typeOnly && !/^(node:|#|\.)/.test(from))
    .map(({ from }) => from);
  assert.deepEqual([...new Set(packages)].toSorted(), ["execa", "zod/mini"]);
  const lines = loaded.reduce((sum, source) => sum + source.lines, 0);
  assert.ok(lines <= HELPER_MAX_LINES, `the helper has ${lines} lines`);
});

test("the model does no I/O", () => {
  for (const source of sources.filter(({ path }) => path.startsWith("src/model/"))) {
    for (const { from } of importsOf(source).filter((one) => one.from.startsWith("node:"))) {
      assert.ok(PURE_NODE_MODULES.has(from), `${source.path}: the model may not import ${from}`);
    }
  }
});

test("the host layer never says VM", () => {
  const host = sources.filter(({ path }) => path.startsWith("src/host/"));
  // /proc has fields such as VmSize and VmRSS, where Vm is virtual memory.
  assert.deepEqual(findLines(host, /\b(vms?|VMs?|microVMs?|Vm(?!Size|Swap)[A-Z][a-z]\w*)\b/), []);
});

test("programs use only packages that are installed with them", () => {
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const { dependencies } = manifest as { dependencies: Record<string, string> };
  const shipped = readTypeScript().filter(({ path }) => /^(src|bin)\//.test(path) && !isForTests(path));
  for (const source of shipped) {
    for (const { from } of importsOf(source).filter((one) => !/^(node:|#|\.)/.test(one.from))) {
      const name = from.split("/", from.startsWith("@") ? 2 : 1).join("/");
      assert.ok(name in dependencies, `${source.path} imports ${name}, which is not in dependencies`);
    }
  }
});
