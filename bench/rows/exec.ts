import { BareVm } from "../bare-vm.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { COLD } from "../template.ts";

/** Starts are short: this many more pairs cost little, and even out what the VMs' own timers do. */
const PAIRS_FACTOR = 3;

/** A whole `exec` against an empty Node and one round trip to the agent of a VM like it. */
export const EXEC: Row = {
  name: "exec",
  async run({ home, shape, pairs }) {
    await home.hearth("create", "--name", "bench-exec", ...COLD, "debian");
    await using bare = await BareVm.prepare(home, shape);
    await bare.boot();
    const { signal } = new AbortController();
    const roundTrip = async (): Promise<number> => {
      const startedMs = performance.now();
      await bare.agent.info(signal);
      return performance.now() - startedMs;
    };
    const ours = (): Promise<number> => home.hearth("exec", "bench-exec", "--", "true");
    const other = async (): Promise<number> => (await home.emptyNode()) + (await roundTrip());
    await interleave(2, ours, other);
    const measured = await interleave(pairs * PAIRS_FACTOR, ours, other);
    await home.hearth("rm", "-f", "bench-exec");
    return [{ what: "exec VM -- true", unit: "ms", ...measured, bound: { atMost: 2.3 } }];
  },
};
