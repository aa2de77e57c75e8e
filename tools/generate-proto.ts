/**
 * Writes the Go and TypeScript code of `proto/`: `agent/gen` and `src/guest/gen`, both checked in. Every tool
 * is pinned: buf and protoc-gen-es by package-lock.json, the Go plugins by agent/go.mod.
 *
 *     node tools/generate-proto.ts
 */
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runOrThrow } from "#host/run.ts";

const ROOT = dirname(import.meta.dirname);
const GENERATE_TIMEOUT_MS = 300_000;

/** Where generated code is kept, relative to the repository. */
export const GENERATED_DIRS = { go: "agent/gen", ts: "src/guest/gen" } as const;

/** Generates both languages into directories that do not exist yet. */
export async function generateProto(out: { go: string; ts: string }, signal: AbortSignal): Promise<void> {
  const go = process.env["GO"] ?? "go";
  const es = join(ROOT, "node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es");
  const template = {
    version: "v2",
    plugins: [
      { local: [go, "tool", "protoc-gen-go"], out: out.go, opt: "paths=source_relative" },
      { local: [go, "tool", "protoc-gen-connect-go"], out: out.go, opt: "paths=source_relative" },
      { local: [process.execPath, es], out: out.ts, opt: ["target=ts", "import_extension=ts"] },
    ],
  };
  const buf = join(ROOT, "node_modules/@bufbuild/buf/bin/buf");
  // The Go plugins are tools of the agent's module, so buf runs there.
  await runOrThrow(
    process.execPath,
    [buf, "generate", join(ROOT, "proto"), "--template", JSON.stringify(template)],
    {
      cwd: join(ROOT, "agent"),
      env: goEnvironment(),
      timeoutMs: GENERATE_TIMEOUT_MS,
      signal,
    },
  );
}

/** Go needs to be found, and to find its caches and its proxy where the caller has them. */
function goEnvironment(): Record<string, string> {
  const names = Object.keys(process.env).filter(
    (name) => name === "PATH" || /^(GO|XDG_CACHE_HOME)/.test(name),
  );
  return Object.fromEntries(names.map((name) => [name, process.env[name] ?? ""]));
}

async function replaceGenerated(signal: AbortSignal): Promise<void> {
  await mkdir(join(ROOT, "build"), { recursive: true });
  const scratch = await mkdtemp(join(ROOT, "build/proto-"));
  try {
    await generateProto({ go: join(scratch, "go"), ts: join(scratch, "ts") }, signal);
    for (const language of ["go", "ts"] as const) {
      const dir = join(ROOT, GENERATED_DIRS[language]);
      await rm(dir, { recursive: true, force: true });
      await mkdir(dirname(dir), { recursive: true });
      await rename(join(scratch, language), dir);
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await replaceGenerated(new AbortController().signal);
