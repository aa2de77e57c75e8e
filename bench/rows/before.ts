import { readFileSync } from "node:fs";
import type { Vm } from "#api/wire.ts";
import { mapsReadOnly } from "#drivers/qemu/guest-memory.ts";
import { HearthHome } from "../hearth-home.ts";
import { describeMachine } from "../machine.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { MEMORY } from "../template.ts";
import { parsePss } from "../vm-cost.ts";

const MIB = 1024 ** 2;
const VMS = 20;
/** A pair takes minutes, and memory hardly differs from one time to the next. */
const PAIRS_PART = 10;
const NAMES = Array.from({ length: VMS }, (_, index) => `bench-before-${index + 1}`);
/** The bound for a QEMU that shares memory. An older one copies it for each VM, which an earlier Hearth did not. */
const SHARED_AT_MOST = 1.3;

/** Warm starts, and the memory of many restored VMs, against an earlier checkout. */
export const BEFORE: Row = {
  name: "before",
  async run({ home, before, pairs, say }) {
    if (before === undefined) return []; // There is nothing to compare with.
    await using other = new HearthHome(before);
    // By the commands alone: an earlier hearthd speaks to its own client.
    for (const one of [home, other]) {
      await one.hearth("image", "build", "debian");
      await one.hearth("warm", "build", ...MEMORY, "debian");
    }
    const runIn = (one: HearthHome) => (): Promise<number> =>
      one.hearth("run", "--rm", ...MEMORY, "debian", "--", "true");
    await interleave(1, runIn(home), runIn(other));
    const starts = await interleave(pairs, runIn(home), runIn(other));
    const count = Math.ceil(pairs / PAIRS_PART);
    say(`before: ${VMS} VMs and ${VMS} more, ${count} times`);
    const memory = await interleave(
      count,
      () => memoryOf(home),
      () => memoryOf(other),
    );
    const bound = { atMost: mapsReadOnly(describeMachine().qemu) ? SHARED_AT_MOST : Infinity };
    return [
      { what: "warm run, to before", unit: "ms", ...starts, bound },
      { what: `PSS of ${VMS} warm VMs, to before`, unit: "MiB", ...memory, bound },
    ];
  },
};

/** Resolves with the memory of all VMs in MiB, after each was restored and has run a command. */
async function memoryOf(home: HearthHome): Promise<number> {
  for (const name of NAMES) {
    await home.hearth("create", "--name", name, ...MEMORY, "debian");
    await home.hearth("exec", name, "--", "true");
  }
  let bytes = 0;
  for (const name of NAMES) {
    const { pid, restoredFrom } = JSON.parse(await home.ask("show", "--json", name)) as Vm;
    if (restoredFrom === undefined) throw new Error(`${name} has booted: there is no template.`);
    bytes += parsePss(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
  }
  await home.hearth("rm", "-f", ...NAMES);
  return bytes / MIB;
}
