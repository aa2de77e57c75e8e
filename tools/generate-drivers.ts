/**
 * Rewrites the two tables of docs/drivers.md: `node tools/generate-drivers.ts [DIR…]`. What was tested comes from
 * the directories (build/contract and below when left out), which the driver contract fills where HEARTH_CONTRACT_OUT
 * names one; a column without new results stays as it is. What drivers offer comes from the drivers themselves.
 */
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format, resolveConfig } from "prettier";
import { formatSize } from "#base/sizes.ts";
import { firecrackerFeatures } from "#drivers/firecracker/features.ts";
import { describeFeatures } from "#drivers/qemu/features.ts";
import type { DriverFeatures } from "#drivers/vm-driver.ts";
import type { ContractResult, ContractResults } from "#testing/contract-record.ts";
import { DRIVER_PROMISES } from "#testing/driver-contract.ts";
import { ROOT } from "./source-files.ts";

export const DRIVERS_DOC = join(ROOT, "docs/drivers.md");

type Rows = readonly (readonly string[])[];

/** Where a driver is tested; a run in another place makes a column of its own. */
const COLUMNS = ["qemu, emulated, host", "qemu, KVM, lab", "firecracker, KVM, lab"] as const;
const VERSION_ROW = "version of the VMM";
const NOT_RUN = "not run";
const WORDS: Readonly<Record<ContractResult, string>> = { pass: "yes", skip: "–", fail: "**no**" };

/** The page with both tables as they are now. Pure. */
export async function driversDocument(page: string, runs: readonly ContractResults[]): Promise<string> {
  const tested = replaceTable(page, "contract", contractTable(readTable(page, "contract"), runs));
  const offered = replaceTable(tested, "features", featureTable());
  return format(offered, { ...(await resolveConfig(DRIVERS_DOC)), filepath: DRIVERS_DOC });
}

/** The first cells of the rows of a table in the page. */
export function rowTitles(page: string, table: "contract" | "features"): readonly string[] {
  return readTable(page, table)
    .slice(1)
    .map(([title = ""]) => title);
}

function contractTable(before: Rows, runs: readonly ContractResults[]): Rows {
  const certified = runs.filter(({ driver }) => driver !== "fake");
  const places = new Set([...COLUMNS, ...certified.map(columnOf)]);
  const columns = [...places].map((place) => {
    const here = certified.filter((run) => columnOf(run) === place);
    const cell = (title: string): string =>
      here.length === 0 ? cellOf(before, title, place) : verdict(title, here);
    const version = here[0]?.version ?? cellOf(before, VERSION_ROW, place);
    return [place, version].concat(DRIVER_PROMISES.map(cell));
  });
  return transpose([["promise", VERSION_ROW, ...DRIVER_PROMISES], ...columns]);
}

function columnOf({ driver, accel, host }: ContractResults): string {
  return `${driver}, ${accel === "kvm" ? "KVM" : "emulated"}, ${host}`;
}

/** Returns the worst result of several runs, such as with a jail and without. */
function verdict(title: string, runs: readonly ContractResults[]): string {
  const found = new Set(runs.map(({ results }) => results[title]));
  const worst = (["fail", undefined, "pass", "skip"] as const).find((result) => found.has(result));
  return worst === undefined ? NOT_RUN : WORDS[worst];
}

function cellOf(table: Rows, title: string, column: string): string {
  const at = table[0]?.indexOf(column) ?? -1;
  return table.find(([first]) => first === title)?.[at] ?? NOT_RUN;
}

/** The oldest that are supported in Debian: bookworm's QEMU, and the Firecracker that the lab has. */
function featureTable(): Rows {
  const qemu = { version: "7.2.0", firmware: { qboot: "", dataDirs: [] } };
  const found = { ok: true, program: "", jailer: "", version: "1.12.1", source: "path" } as const;
  const firecracker = firecrackerFeatures({ ...found, ownerUid: 0, mode: 0o755 }, "works");
  return transpose([
    FEATURES.map(([title]) => title),
    featureColumn("QEMU 7.2 with KVM", describeFeatures(qemu, "kvm")),
    featureColumn("QEMU 7.2, emulated", describeFeatures(qemu, "tcg")),
    featureColumn("Firecracker 1.12 with KVM", firecracker),
  ]);
}

const FEATURES: readonly (readonly [title: string, cell: (features: DriverFeatures) => string])[] = [
  ["feature", () => ""],
  ["preference", ({ preference }) => String(preference)],
  [
    "kernel",
    ({ kernelFormat }) => (kernelFormat === "elf" ? "ELF file, unpacked once" : "as the distribution has it"),
  ],
  ["networks", ({ networks }) => networks.map((network) => `\`${network}\``).join(", ")],
  ["`--nested`", ({ nested }) => (nested === undefined ? "no" : `CPUs: ${nested.cpusMax} at most`)],
  ["pause and resume", ({ pause }) => yesOrNo(pause)],
  ["`--disk-limit`", ({ limits }) => yesOrNo(limits.disk)],
  ["`--net-limit`", ({ limits }) => yesOrNo(limits.net)],
  ["the id of a disk is its serial in the guest", ({ diskSerials }) => yesOrNo(diskSerials)],
  ["memory of a VM that runs", ({ balloon }) => yesOrNo(balloon)],
  ["disks into a VM that runs", ({ hotplug }) => yesOrNo(hotplug.disk)],
  ["saved with its memory", ({ snapshots }) => yesOrNo(snapshots !== undefined)],
  ["of what was restored, it does not guarantee", ({ snapshots }) => snapshots?.caveats.join(" ") || "–"],
  ["boot may take", ({ agentDeadlineMs }) => `${agentDeadlineMs / 1000} s`],
  ["besides the guest's memory", ({ vmmOverheadBytes }) => `${formatSize(vmmOverheadBytes)} at most`],
  ["what it does not guarantee", ({ caveats }) => caveats.join(" ") || "–"],
];

function featureColumn(name: string, features: DriverFeatures): readonly string[] {
  return [name, ...FEATURES.slice(1).map(([, cell]) => cell(features))];
}

function yesOrNo(is: boolean): string {
  return is ? "yes" : "no";
}

function transpose(columns: Rows): Rows {
  return (columns[0] ?? []).map((_, row) => columns.map((column) => column[row] ?? ""));
}

function markers(table: string): readonly [begin: string, end: string] {
  return [`<!-- ${table}: made by tools/generate-drivers.ts -->`, `<!-- ${table} end -->`];
}

function readTable(page: string, table: string): Rows {
  const [begin, end] = markers(table);
  const lines = (page.split(begin)[1]?.split(end)[0] ?? "")
    .split("\n")
    .filter((line) => line.startsWith("|"));
  const rows = lines.map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  return rows.filter((_, index) => index !== 1);
}

function replaceTable(page: string, table: string, rows: Rows): string {
  const [begin, end] = markers(table);
  const [before, rest] = page.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined)
    throw new Error(`${DRIVERS_DOC} has no place for ${table}.`);
  const [head = [], ...body] = rows;
  const lines = [head, head.map(() => "---"), ...body].map((cells) => `| ${cells.join(" | ")} |`);
  return [before, begin, "\n\n", lines.join("\n"), "\n\n", end, after].join("");
}

function readRuns(dir: string): ContractResults[] {
  return globSync("**/*.json", { cwd: dir })
    .toSorted()
    .map((name) => JSON.parse(readFileSync(join(dir, name), "utf8")) as ContractResults);
}

if (import.meta.main) {
  const dirs = process.argv.slice(2);
  const runs = (dirs.length === 0 ? [join(ROOT, "build/contract")] : dirs).flatMap(readRuns);
  writeFileSync(DRIVERS_DOC, await driversDocument(readFileSync(DRIVERS_DOC, "utf8"), runs));
}
