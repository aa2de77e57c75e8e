import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PROBES } from "./table.ts";
import type { PathName } from "./table.ts";

/** The results of all probes on one path, as a file in JSON. */
export type PathResults = {
  readonly path: PathName;
  /** By the id of the probe. */
  readonly results: Readonly<Record<string, "pass" | "fail">>;
};

/** Writes the results to the directory in HEARTH_PROBES_OUT, if there is one: tools/generate-probes.ts reads them. */
export function recordProbes(path: PathName, faults: ReadonlyMap<string, readonly string[]>): void {
  const dir = process.env["HEARTH_PROBES_OUT"];
  if (dir === undefined) return;
  const found = PROBES.map(({ id }) => [id, faults.has(id) ? "fail" : "pass"] as const);
  const results: PathResults = { path, results: Object.fromEntries(found) };
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, `${path.replaceAll(" ", "-")}.json`), JSON.stringify(results, null, 2));
}
