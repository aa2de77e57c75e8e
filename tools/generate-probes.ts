/**
 * Writes docs/network-probes.md from the table of probes: `node tools/generate-probes.ts [DIR]`. The results of paths
 * come from a directory (build/probes when left out), which e2e/policy-probes.test.ts fills where HEARTH_PROBES_OUT
 * names one; a path without new results keeps those of the page.
 */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format, resolveConfig } from "prettier";
import { ALLOWED, DENIED, POLICIES } from "../e2e/probes/probe.ts";
import type { Probe, Twin } from "../e2e/probes/probe.ts";
import type { PathResults } from "../e2e/probes/probe-record.ts";
import { CHAPTERS, PATHS, PROBES } from "../e2e/probes/table.ts";
import { ROOT } from "./source-files.ts";

export const PROBES_DOC = join(ROOT, "docs/network-probes.md");

const NOT_RUN = "not run";
const INTRO = `# Probes of network policies

The policy of a VM ([network.md](network.md)) is tested by ${PROBES.length} probes, each of which is a packet that a guest sends. Each has a twin that differs in one thing and is allowed: it shows that the probe would have come through. A program in the guest sends both; on the host, the packets are watched at every interface from the guest's card to that of the peer, and in the network of another VM. A probe holds if the guest saw its verdict, and the packet was seen only where the verdict has it.

The Internet is a network namespace of the test, without a route out of it: every address answers TCP at port 80 there, and 198.51.100.7 more. Its resolver answers names such as 198-51-100-20.example with the address in their first label, and others with 198.51.100.7. 10.1.2.3 is a private address, 203.0.113.2 and 192.0.2.2 are the host's. The guest has 192.0.0.2, its network namespace 192.0.0.1.

This page is generated: \`HEARTH_PROBES_OUT=$PWD/build/probes node tools/dev.ts e2e policy-probes\`, and then \`node tools/generate-probes.ts\`.`;

/** Returns the page, with the results of an earlier one where there are no new ones. Pure. */
export async function probesDocument(page: string, runs: readonly PathResults[]): Promise<string> {
  const parts = [
    INTRO,
    "## Results",
    "After each of these, all probes are sent under all policies. The first policy is the one that the VM has; each other one replaces the one before in the running VM.",
    table(
      ["after", "result"],
      PATHS.map((path) => [path, resultOf(path, page, runs)]),
    ),
    "## Policies",
    table(
      ["policy", "as flags"],
      Object.entries(POLICIES).map(([name, { flags }]) => [name, flags]),
    ),
    "## Verdicts",
    table(["verdict", "meaning"], Object.entries({ ...DENIED, ...ALLOWED })),
    ...CHAPTERS.flatMap(({ title, probes }) => [
      `## ${title}`,
      table(["probe", "policy", "packet", "verdict", "allowed twin"], probes.map(rowOf)),
    ]),
  ];
  return format(parts.join("\n\n"), { ...(await resolveConfig(PROBES_DOC)), filepath: PROBES_DOC });
}

function rowOf({ says, policy, packet, verdict, twin }: Probe): string[] {
  return [says, policy, packet.text, verdict, twinOf(twin)];
}

function twinOf({ packet, policy, verdict }: Twin): string {
  return `${packet.text}${policy === undefined ? "" : ` (${policy})`}: ${verdict}`;
}

function resultOf(path: string, page: string, runs: readonly PathResults[]): string {
  const run = runs.find((one) => one.path === path);
  if (run === undefined) {
    const line = page.split("\n").find((one) => one.startsWith(`| ${path} `));
    return line?.split("|")[2]?.trim() ?? NOT_RUN;
  }
  const failed = PROBES.filter(({ id }) => run.results[id] !== "pass");
  if (failed.length === 0) return `all ${PROBES.length} hold`;
  return `${failed.length} do not hold: ${failed.map(({ says }) => says).join(" ")}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("*", "\\*")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

if (import.meta.main) {
  const [dir = join(ROOT, "build/probes")] = process.argv.slice(2);
  const runs = globSync(join(dir, "*.json")).map(
    (path) => JSON.parse(readFileSync(path, "utf8")) as PathResults,
  );
  const page = globSync(PROBES_DOC).length === 0 ? "" : readFileSync(PROBES_DOC, "utf8");
  writeFileSync(PROBES_DOC, await probesDocument(page, runs));
}
