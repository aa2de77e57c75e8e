/** Writes docs/openapi.json and docs/errors.md from the code. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ERROR_CODES } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { Ending } from "#daemon/lifecycle/ending.ts";
import { Operations } from "#daemon/operations/operations.ts";
import { makeApi } from "#daemon/http/api.ts";
import type { ApiBindings } from "#daemon/http/api.ts";
import { LOCAL_USER } from "#model/principal.ts";
import { ERROR_MEANINGS } from "./error-meanings.ts";

const DOCS = join(import.meta.dirname, "../docs");

/** Returns the body of GET /openapi.json. The routes are only listed, so there need not be a hearthd behind them. */
export async function openApiDocument(): Promise<string> {
  const log = { event() {}, child: () => log };
  const host = { log, now: () => 0, random: (bytes: number) => new Uint8Array(bytes) };
  const daemon = { host, version: "", ending: new Ending(), operations: new Operations() };
  const bindings: ApiBindings = { principal: LOCAL_USER };
  const answer = await makeApi(daemon as unknown as Daemon).request("/openapi.json", {}, bindings);
  return `${JSON.stringify(await answer.json(), undefined, 2)}\n`;
}

/** The table of codes as a page. */
export function errorPage(): string {
  const rows = Object.entries(ERROR_CODES).map(([code, { status, exit }]) => {
    const [meaning, fix] = ERROR_MEANINGS[code as ErrorCode];
    return `| \`${code}\` | ${status} | ${exit} | ${meaning} | ${fix} |`;
  });
  return `# Errors

Generated from \`src/base/error.ts\` and \`tools/error-meanings.ts\`. An error has a code, a sentence and, where there is something to do, a hint. The CLI prints \`error: …\` and \`hint: …\` on stderr; with \`--json\` it prints \`{ "error": { "code", "message", "hint", "operation" } }\` on stdout; the API answers with the same object and the status below.

\`run\`, \`exec\` and \`shell\` exit with 125 when Hearth failed, 126 when the command cannot be executed, 127 when it does not exist, 130 when it was cancelled, 128+n when signal n ended it, and 124 when \`exec --timeout\` expired; otherwise the exit code is the command's own.

| code | HTTP status | exit code | means | what to do |
|---|---|---|---|---|
${rows.join("\n")}
`;
}

export const GENERATED = [
  { file: join(DOCS, "openapi.json"), make: openApiDocument },
  { file: join(DOCS, "errors.md"), make: async () => errorPage() },
] as const;

if (process.argv[1] === import.meta.filename) {
  for (const { file, make } of GENERATED) writeFileSync(file, await make());
}

/** The files in the checkout that are not what the code would write. */
export async function staleFiles(): Promise<string[]> {
  const stale: string[] = [];
  for (const { file, make } of GENERATED) if (readFileSync(file, "utf8") !== (await make())) stale.push(file);
  return stale;
}
