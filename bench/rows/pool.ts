import { HearthHome } from "../hearth-home.ts";
import { interleave } from "../pairs.ts";
import { Pool } from "../pool.ts";
import type { Row } from "../row.ts";
import { MEMORY, Template } from "../template.ts";

/**
 * A whole `run` that takes a VM of a pool, against one that restores it. Two hearthds that share their images: one
 * with a pool, one without. What a run sets off, filling the pool again, is over before anything else is measured.
 */
export const POOL: Row = {
  name: "pool",
  async run({ home, pairs, say }) {
    await using pooled = new HearthHome();
    const pool = new Pool(pooled);
    say("pool: a hearthd with a VM that waits");
    await pooled.daemon();
    const template = await Template.build(home, MEMORY);
    const run = (where: HearthHome): Promise<number> =>
      where.hearth("run", "--rm", ...MEMORY, "debian", "--", "true");
    const ours = async (): Promise<number> => {
      const waiting = await pool.full();
      const tookMs = await run(pooled);
      if ((await pool.full()) === waiting) throw new Error("The run has not taken the VM of the pool.");
      return tookMs;
    };
    const other = (): Promise<number> => run(home);
    await interleave(2, ours, other);
    const measured = await interleave(pairs, ours, other);
    await template.assertUsed();
    return [{ what: "run from a pool, against warm", unit: "ms", ...measured, bound: { atMost: 0.6 } }];
  },
};
