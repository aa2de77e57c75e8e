/**
 * `npm run bench [-- [--pairs N] [--qemu PROGRAM] [--before CHECKOUT] [names]]`: the table of what Hearth promises to
 * cost, and a file with every number in bench/results/. Exits with 1 when a bound is missed. `--qemu` is an absolute
 * path; `--before` an earlier checkout that is set up, for the row `before`.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { VmShape } from "./bare-vm.ts";
import { HearthHome } from "./hearth-home.ts";
import { describeLine, assess, TABLE_HEAD } from "./line.ts";
import type { Line } from "./line.ts";
import { describeMachine, loadNow } from "./machine.ts";
import type { Bench, Row } from "./row.ts";
import { useQemu } from "./qemu-program.ts";
import { chooseRows } from "./rows.ts";
import { COLD } from "./template.ts";

const PAIRS = 10;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    pairs: { type: "string", default: String(PAIRS) },
    qemu: { type: "string" },
    before: { type: "string" },
  },
});
useQemu(values.qemu);
process.exitCode = await main(chooseRows(positionals), Number(values.pairs));

async function main(rows: readonly Row[], pairs: number): Promise<number> {
  const startedAt = new Date();
  const machine = describeMachine();
  const load = [loadNow()];
  console.log(
    `${machine.cpu}, ${machine.cores} cores, QEMU ${machine.qemu}, load ${load[0]}, ${pairs} pairs\n`,
  );
  const say = (text: string): void => console.error(`  … ${text}`);
  await using home = new HearthHome();
  const bench: Bench = { home, shape: await learnShape(home, say), pairs, say, before: values.before };
  console.log(TABLE_HEAD);
  const lines: Line[] = [];
  for (const row of rows) {
    const measured = await row.run(bench);
    lines.push(...measured);
    for (const line of measured) console.log(describeLine(line));
  }
  load.push(loadNow());
  const results = lines.map((line) => ({ line, verdict: assess(line) }));
  const file = writeResults(startedAt, { startedAt, machine, load, pairs, results });
  console.log(`\nload ${load.join(" to ")}; every number is in ${file}`);
  return results.every(({ verdict }) => verdict.ok) ? 0 : 1;
}

/** Builds the image where it is not there, and asks a VM what hearthd gave it. */
async function learnShape(home: HearthHome, say: Bench["say"]): Promise<VmShape> {
  say("the image, and one VM to see what hearthd makes of it");
  await home.hearth("image", "build", "debian");
  await home.hearth("create", "--name", "bench-shape", ...COLD, "debian");
  const vm = (await home.connect()).vm("bench-shape");
  const { imageDigest, accel = "tcg", cpus, memoryBytes, diskBytes } = await vm.show();
  await vm.remove({ force: true });
  return { digest: imageDigest as VmShape["digest"], accel, cpus, memoryBytes, diskBytes };
}

function writeResults(startedAt: Date, results: object): string {
  const name = `${startedAt.toISOString().slice(0, 19).replaceAll(":", "-")}.json`;
  const dir = join(import.meta.dirname, "results");
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, name), `${JSON.stringify(results, undefined, 2)}\n`);
  return `bench/results/${name}`;
}
