import { BareVm } from "../bare-vm.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { COLD } from "../template.ts";

/** A whole `run` that boots, its VM made and removed, against QEMU alone until the agent in it answers. */
export const RUN: Row = {
  name: "run",
  async run({ home, shape, pairs }) {
    const bare = async (): Promise<number> => {
      await using vm = await BareVm.prepare(home, shape);
      return await vm.boot();
    };
    const ours = (): Promise<number> => home.hearth("run", "--rm", ...COLD, "debian", "--", "true");
    // The first of each reads files and compiles code that all others find in memory.
    await interleave(1, ours, bare);
    const measured = await interleave(pairs, ours, bare);
    return [{ what: "run --rm --cold debian -- true", unit: "ms", ...measured, bound: { atMost: 1.2 } }];
  },
};
