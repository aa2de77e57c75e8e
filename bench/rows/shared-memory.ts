import type { HearthHome } from "../hearth-home.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { COLD, MEMORY, Template } from "../template.ts";
import { pssBytes } from "../vm-cost.ts";

const MIB = 1024 ** 2;
const VMS = 20;
/** A pair takes minutes, and memory hardly differs from one time to the next. */
const PAIRS_PART = 10;
const NAMES = Array.from({ length: VMS }, (_, index) => `bench-shared-${index + 1}`);

/** The memory of many VMs of one template, against as many that have booted. Each has run a command. */
export const SHARED_MEMORY: Row = {
  name: "shared-memory",
  async run({ home, pairs, say }) {
    const template = await Template.build(home, MEMORY);
    const warm = (): Promise<number> => memoryOf(home, []);
    const cold = (): Promise<number> => memoryOf(home, COLD);
    const count = Math.ceil(pairs / PAIRS_PART);
    say(`shared-memory: ${VMS} VMs and ${VMS} more, ${count} times`);
    const measured = await interleave(count, warm, cold);
    await template.assertUsed();
    return [{ what: `PSS of ${VMS} warm VMs, to cold`, unit: "MiB", ...measured, bound: { atMost: 0.5 } }];
  },
};

async function memoryOf(home: HearthHome, flags: readonly string[]): Promise<number> {
  const hearth = await home.connect();
  for (const name of NAMES) {
    await home.hearth("create", "--name", name, ...MEMORY, ...flags, "debian");
    await hearth.vm(name).exec(["true"]);
  }
  let bytes = 0;
  for (const name of NAMES) bytes += await pssBytes(hearth.vm(name));
  await home.hearth("rm", "-f", ...NAMES);
  return bytes / MIB;
}
