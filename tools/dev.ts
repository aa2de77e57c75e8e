/**
 * The one entry for tasks: `node tools/dev.ts check|unit|go|e2e|e2e-boot|coverage|lab|test|bench|fmt`. make, npm
 * scripts and CI call it.
 *
 * A failing group does not stop the ones after it: one run tells everything that is wrong.
 */
import { type ChildProcess, type SpawnOptions, type StdioOptions, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  globSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { delimiter, dirname, join, relative } from "node:path";
import { pipeline } from "node:stream/promises";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { errorChain } from "#base/error.ts";

type Counts = { tests: number; passed: number; failed: number; skipped: number };
type Outcome = { group: string; ok: boolean; seconds: number; counts: Counts | undefined };
type Group = () => Promise<{ ok: boolean; counts?: Counts }>;

const ROOT = join(import.meta.dirname, "..");
const SHOWN: StdioOptions = ["ignore", "inherit", "inherit"];
const UNIT_TIMEOUT_MS = 120_000;
/** Under emulation a boot takes seconds, and the first one builds an image. */
const E2E_TIMEOUT_MS = 900_000;
/** More at once would make VMs wait for each other, and need more memory. */
const E2E_AT_ONCE_MAX = 2;
/** Under emulation of emulation. */
const LAB_TIMEOUT_MS = 1_500_000;
const LAB_REPORT = "report.json";
const GO_SOURCES = "agent/**/*.go";
const UNIT_TESTS = ["src/**/*.test.ts", "tools/**/*.test.ts", "bench/**/*.test.ts"];
const E2E_TESTS = "e2e/**/*.test.ts";
/** The directory where Node keeps compiled modules. */
const COMPILE_CACHE = "NODE_COMPILE_CACHE";
/** In a test: VMs that start as the whole run says, and not as the test does. */
const OPEN_BED = /\bnew Bed\((?!\{[^}]*\bwarm:)/;

/**
 * Files whose VMs boot, on the second QEMU, though the run has templates. HEARTH_E2E=all runs every file whose VMs
 * may do either.
 */
const ABOUT_BOOTS = /\/(recovery|run|warm)\.test/;
/** Files about hearthd and its clients: a whole run has them in e2e-boot only. */
const ABOUT_CLIENTS = /\/(recovery|run)\.test/;

/**
 * Files of e2e whose hearthd is a user without rights, beside a helper that is root, where this host can have that. In
 * e2e-boot hearthd is root; HEARTH_E2E=all runs these there, too.
 */
const ABOUT_RIGHTS = "/forks.test,/isolation.test,/lifecycle.test,/warm.test";
/** Tells beds which files: e2e/apart.ts. */
const APART = "HEARTH_E2E_APART";

/** Files that start QEMU without hearthd. */
const OF_EACH_QEMU = /\/(busy-memory|driver-contract|new-memory|sizes)\.test/;
/** The QEMU of e2e tests, or "host" for the one on PATH: e2e/tested-qemu.ts. */
const TESTED_QEMU = "HEARTH_E2E_QEMU";
const SECOND_QEMU_MS = 900_000;

const GROUPS: Readonly<Record<string, Group>> = {
  check: async () => allOf([types, lint, format, goLint]),
  unit,
  go: async () => ({ ok: await inAgent("go", ["test", "./..."]) }),
  e2e: () => e2e(),
  "e2e-boot": e2eBoot,
  coverage,
  lab: () => (process.env["HEARTH_LAB"] === undefined ? lab() : testsInLab()),
  bench: async () => ({ ok: await command(process.execPath, ["bench/main.ts", ...process.argv.slice(3)]) }),
  fmt: async () => allOf([() => tool("prettier", ["--write", "--log-level", "warn", "."]), goFormat]),
};
const FAILURE_CHARS = 1_500;
const SLOWEST_SHOWN = 20;
const failures: string[] = [];
/** The lab's VM has one CPU, so these have the other one meanwhile, and then a part of e2e. */
const BESIDE_LAB = ["unit", "go", "e2e-boot"];
/** All that runs beside the lab takes about as long as the lab with these. */
const ABOUT_SAVED = /\/(crash-|damaged-s|saved-|snapshot)/;
/** The cores that the groups that run now may use. */
let cores = availableParallelism();

process.chdir(ROOT);
process.env["PATH"] = [join(ROOT, "node_modules/node/bin"), goDir(), process.env["PATH"] ?? ""].join(
  delimiter,
);
// The toolchain that was set up, never one fetched on the way.
process.env["GOTOOLCHAIN"] = "local";
process.exitCode = await main(process.argv[2] ?? "");

async function main(task: string): Promise<number> {
  const group = GROUPS[task];
  if (group === undefined && task !== "test") {
    console.error(`error: "${task}" is not a task.\nhint: one of test, ${Object.keys(GROUPS).join(", ")}`);
    return 2;
  }
  const outcomes = group === undefined ? await everything() : [await timed(task, group)];
  report(outcomes);
  return outcomes.every(({ ok }) => ok) ? 0 : 1;
}

async function everything(): Promise<Outcome[]> {
  const outcomes = await inTurn(["check"]);
  const inLab = timed("lab", labQuietly);
  cores = Math.max(1, cores - 1);
  outcomes.push(...(await inTurn(BESIDE_LAB)));
  outcomes.push(await timed("e2e (1)", () => e2e((file) => ABOUT_SAVED.test(file))));
  outcomes.push(await inLab);
  cores = availableParallelism();
  const isLeft = (file: string): boolean => !ABOUT_SAVED.test(file) && !ABOUT_CLIENTS.test(file);
  outcomes.push(await timed("e2e (2)", () => e2e(isLeft)));
  return outcomes;
}

async function inTurn(names: readonly string[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const name of names) outcomes.push(await timed(name, GROUPS[name] ?? unknownGroup(name)));
  return outcomes;
}

function unknownGroup(name: string): never {
  throw new Error(`There is no group ${name}.`);
}

async function timed(name: string, group: Group): Promise<Outcome> {
  console.log(`\n=== ${name}`);
  const startedMs = performance.now();
  const seconds = (): number => (performance.now() - startedMs) / 1000;
  try {
    const { ok, counts } = await group();
    return { group: name, ok, counts, seconds: seconds() };
  } catch (error) {
    failures.push(`${name}: ${errorChain(error)}`);
    return { group: name, ok: false, counts: undefined, seconds: seconds() };
  }
}

/** The last lines are the ones that CI reads: why something failed stands right above the verdict. */
function report(outcomes: readonly Outcome[]): void {
  for (const failure of failures) console.log(`\nfailed: ${failure}`);
  console.log("");
  for (const { group, ok, seconds, counts } of outcomes) {
    const tests = counts === undefined ? "" : `  ${describeCounts(counts)}`;
    console.log(
      `${ok ? "ok    " : "FAILED"}  ${group.padEnd(8)} ${seconds.toFixed(1).padStart(7)} s${tests}`,
    );
  }
  const total = outcomes.map(({ counts }) => counts).filter((counts) => counts !== undefined);
  if (total.length === 0) return;
  const sum = (key: keyof Counts): number => total.reduce((all, counts) => all + counts[key], 0);
  const counts = {
    tests: sum("tests"),
    passed: sum("passed"),
    failed: sum("failed"),
    skipped: sum("skipped"),
  };
  console.log(`total: ${describeCounts(counts)}`);
}

function describeCounts({ tests, passed, failed, skipped }: Counts): string {
  return `${tests} tests, ${passed} passed, ${failed} failed, ${skipped} skipped`;
}

async function allOf(steps: readonly (() => Promise<boolean>)[]): Promise<{ ok: boolean }> {
  let ok = true;
  for (const step of steps) ok = (await step()) && ok;
  return { ok };
}

function types(): Promise<boolean> {
  return tool("tsc", ["-p", "."]);
}

function lint(): Promise<boolean> {
  return tool("oxlint", ["--deny-warnings"]);
}

function format(): Promise<boolean> {
  return tool("prettier", ["--check", "--log-level", "warn", "."]);
}

function goFormat(): Promise<boolean> {
  const sources = globSync(GO_SOURCES);
  return sources.length === 0 ? Promise.resolve(true) : command("gofmt", ["-w", ...sources]);
}

/** `gofmt -l` prints what is not formatted and still exits with 0, so its output is the verdict. */
async function goLint(): Promise<boolean> {
  const sources = globSync(GO_SOURCES);
  if (sources.length === 0) return true;
  const unformatted = await outputOf("gofmt", ["-l", ...sources]);
  if (unformatted.trim() !== "") console.log(`gofmt would change:\n${unformatted}`);
  return (await inAgent("go", ["vet", "./..."])) && unformatted.trim() === "";
}

/** Returns the beginning of a failed test's message, which a long diff or stack would push out of a log's tail. */
function firstWords(error: Error & { cause?: unknown }): string {
  const { message } = error.cause instanceof Error ? error.cause : error;
  return message
    .slice(0, FAILURE_CHARS)
    .split("\n")
    .map((line) => `  ${line}`)
    .join("\n");
}

/** Runs test files each in its own process, and prints the runner's own closing lines. */
async function testFiles(patterns: readonly string[], concurrency: number, timeoutMs: number) {
  const wanted = process.argv.slice(3);
  const files = globSync([...patterns]).filter(
    (file) => wanted.length === 0 || wanted.some((word) => file.includes(word)),
  );
  const counts: Counts = { tests: 0, passed: 0, failed: 0, skipped: 0 };
  const took: { file: string; seconds: number }[] = [];
  let ok = true;
  const stream = run({ files: files.toSorted(), concurrency, timeout: timeoutMs });
  stream.on("test:fail", ({ name, file, details }) => {
    if (details.type !== "suite") failures.push(`${file ?? ""}: ${name}\n${firstWords(details.error)}`);
  });
  stream.on("test:summary", (summary) => {
    // The one without a file is about all files together.
    if (summary.file !== undefined) {
      took.push({ file: relative(ROOT, summary.file), seconds: summary.duration_ms / 1000 });
      return;
    }
    const { tests, passed, skipped, todo } = summary.counts;
    Object.assign(counts, { tests, passed, skipped, failed: tests - passed - skipped - todo });
    ok = summary.success;
  });
  await pipeline(stream.compose(spec), process.stdout, { end: false });
  const slowest = took.toSorted((one, other) => other.seconds - one.seconds).slice(0, SLOWEST_SHOWN);
  for (const { file, seconds } of slowest) console.log(`${seconds.toFixed(1).padStart(8)} s  ${file}`);
  return { ok, counts };
}

/** Each file is a process, which compiles the same modules as the others: Node keeps them for all. */
async function unit() {
  const before = process.env[COMPILE_CACHE];
  process.env[COMPILE_CACHE] ??= join(ROOT, "build/compile");
  try {
    return await testFiles(UNIT_TESTS, cores, UNIT_TIMEOUT_MS);
  } finally {
    if (before === undefined) delete process.env[COMPILE_CACHE];
  }
}

/** As e2e/templates.ts does: tests kill hearthd, and then Node does not keep what it has compiled. */
async function compileHearthd(cache: string): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), "hearth-"));
  const env = { ...process.env, HEARTH_HOME: home, [COMPILE_CACHE]: cache };
  try {
    for (const verb of ["start", "stop"])
      await command(process.execPath, ["bin/hearth.ts", "daemon", verb], { env });
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** VMs of the tests start from templates, unless a boot is what a test is about. */
async function e2e(which: (file: string) => boolean = () => true) {
  const [{ apartDenial }, { e2eCacheDir }, { makeTemplates }, { testedQemu }] = await Promise.all([
    import("../e2e/apart.ts"),
    import("./second-qemu.ts"),
    import("../e2e/templates.ts"),
    import("../e2e/tested-qemu.ts"),
  ]);
  await using _templates = await makeTemplates(e2eCacheDir(), testedQemu());
  const denial = apartDenial();
  if (denial !== undefined) console.log(`hearthd is not run without rights: ${denial}`);
  else process.env[APART] ??= ABOUT_RIGHTS;
  try {
    const files = globSync(E2E_TESTS).filter(which);
    return await testFiles(files, Math.min(cores, E2E_AT_ONCE_MAX), E2E_TIMEOUT_MS);
  } finally {
    if (process.env[APART] === ABOUT_RIGHTS) delete process.env[APART];
  }
}

/** The tests of e2e, and what of the sources their processes have called. */
async function coverage() {
  const { formatCoverage, readCoverage } = await import("./coverage.ts");
  const reports = join(ROOT, "build/coverage");
  rmSync(reports, { recursive: true, force: true });
  process.env["NODE_V8_COVERAGE"] = reports;
  process.env[APART] = ""; // A hearthd without rights could write no reports there.
  const outcome = await e2e();
  console.log(`\n${formatCoverage(readCoverage(reports, ROOT))}`);
  return outcome;
}

/** Tests whose VMs boot, with the second QEMU, if the host can run one: so both are tested in one run. */
async function e2eBoot() {
  if (process.env[TESTED_QEMU] !== undefined) return testsOfBoots();
  const { e2eCacheDir, findSecondQemu } = await import("./second-qemu.ts");
  try {
    const found = await findSecondQemu(e2eCacheDir(), AbortSignal.timeout(SECOND_QEMU_MS));
    console.log(found.ok ? `QEMU ${found.version}: ${found.program}` : `The host's QEMU: ${found.reason}`);
    if (found.ok) process.env[TESTED_QEMU] = found.program;
    await compileHearthd(join(e2eCacheDir(), "compile"));
    return await testsOfBoots();
  } finally {
    delete process.env[TESTED_QEMU];
  }
}

function testsOfBoots() {
  const all = process.env["HEARTH_E2E"] === "all";
  const files = globSync(E2E_TESTS).filter(
    (file) =>
      OF_EACH_QEMU.test(file) || (all ? OPEN_BED.test(readFileSync(file, "utf8")) : ABOUT_BOOTS.test(file)),
  );
  return testFiles(files, Math.min(cores, E2E_AT_ONCE_MAX), E2E_TIMEOUT_MS);
}

/** The tests of the nested host: this very task, in there. What it counted and why something failed comes back. */
async function lab(stdio: StdioOptions = SHOWN): Promise<{ ok: boolean; counts?: Counts }> {
  const out = join(ROOT, "build/lab");
  rmSync(out, { recursive: true, force: true });
  const inside = ["node", "tools/dev.ts", "lab", ...process.argv.slice(3)];
  const ok = await command(process.execPath, ["lab/main.ts", "--out", out, ...inside], { stdio });
  const file = join(out, LAB_REPORT);
  if (!existsSync(file)) return { ok: false };
  const { counts, why } = JSON.parse(readFileSync(file, "utf8")) as { counts: Counts; why: string[] };
  failures.push(...why);
  return { ok, counts };
}

/** Shows what it prints when it has ended, and not between the lines of others. */
async function labQuietly() {
  const dir = mkdtempSync(join(tmpdir(), "hearth-lab-"));
  const file = join(dir, "output");
  const output = openSync(file, "w");
  try {
    return await lab(["ignore", output, output]);
  } finally {
    closeSync(output);
    console.log(`\n=== lab\n${readFileSync(file, "utf8")}=== end of lab\n`);
    rmSync(dir, { recursive: true });
  }
}

async function testsInLab(): Promise<{ ok: boolean; counts: Counts }> {
  // An emulated CPU takes half a minute for them.
  await compileHearthd(process.env[COMPILE_CACHE] ?? "");
  const outcome = await testFiles(["lab/**/*.test.ts"], 1, LAB_TIMEOUT_MS);
  const found = JSON.stringify({ counts: outcome.counts, why: failures });
  writeFileSync(join(process.env["HEARTH_LAB_OUT"] ?? ".", LAB_REPORT), found);
  return outcome;
}

function tool(name: string, args: readonly string[]): Promise<boolean> {
  return command(join(ROOT, "node_modules/.bin", name), args);
}

function inAgent(file: string, args: readonly string[]): Promise<boolean> {
  return command(file, args, { cwd: join(ROOT, "agent") });
}

function command(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<boolean> {
  return ending(spawn(file, args, { cwd: ROOT, stdio: SHOWN, ...options }), file);
}

async function outputOf(file: string, args: readonly string[]): Promise<string> {
  const child = spawn(file, args, { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  await ending(child, file);
  return output;
}

function ending(child: ChildProcess, file: string): Promise<boolean> {
  return new Promise((resolve) => {
    child.once("error", (error) => {
      console.error(`error: \`${file}\` could not be started: ${error.message}`);
      resolve(false);
    });
    child.once("close", (code) => resolve(code === 0));
  });
}

/** Where set-up found the Go that builds the agent; empty when it was never asked. */
function goDir(): string {
  const stamp = join(ROOT, ".setup/go");
  return existsSync(stamp) ? dirname(readFileSync(stamp, "utf8").trim()) : "";
}
