import { HearthHome } from "../hearth-home.ts";
import type { Line } from "../line.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { COLD } from "../template.ts";

const PAIRS_FACTOR = 3;
const BOUND = { atMost: 1.05 };
const VM = "bench-commands";

/** Short commands against an earlier checkout, each with its own hearthd and its own VM. */
export const COMMANDS_BEFORE: Row = {
  name: "commands-before",
  async run({ home, before, pairs }) {
    if (before === undefined) return []; // There is nothing to compare with.
    await using other = new HearthHome(before);
    for (const one of [home, other]) await one.hearth("create", "--name", VM, ...COLD, "debian");
    const lines: Line[] = [];
    for (const words of [["version"], ["ls"], ["exec", VM, "--", "true"]]) {
      const runIn = (one: HearthHome) => (): Promise<number> => one.hearth(...words);
      await interleave(2, runIn(home), runIn(other));
      const measured = await interleave(pairs * PAIRS_FACTOR, runIn(home), runIn(other));
      lines.push({ what: `${words[0]}, to before`, unit: "ms", ...measured, bound: BOUND });
    }
    for (const one of [home, other]) await one.hearth("rm", "-f", VM);
    return lines;
  },
};
