import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { COLD, MEMORY, Template } from "../template.ts";

/** A whole `run` that restores a warm template, against the same that boots. */
export const WARM: Row = {
  name: "warm",
  async run({ home, pairs }) {
    const template = await Template.build(home, MEMORY);
    const run = (...flags: readonly string[]): Promise<number> =>
      home.hearth("run", "--rm", ...MEMORY, ...flags, "debian", "--", "true");
    const ours = (): Promise<number> => run();
    const other = (): Promise<number> => run(...COLD);
    await interleave(1, ours, other);
    const measured = await interleave(pairs, ours, other);
    await template.assertUsed();
    return [{ what: "warm run, against a cold one", unit: "ms", ...measured, bound: { atMost: 0.15 } }];
  },
};
