import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";

const PAIRS_FACTOR = 3;

/** The command that does the least, against an empty Node. */
export const VERSION: Row = {
  name: "version",
  async run({ home, pairs }) {
    const ours = (): Promise<number> => home.hearth("version");
    const other = (): Promise<number> => home.emptyNode();
    await interleave(2, ours, other);
    const measured = await interleave(pairs * PAIRS_FACTOR, ours, other);
    return [{ what: "version", unit: "ms", ...measured, bound: { atMost: 1.6 } }];
  },
};
