import { interleave } from "../pairs.ts";
import { RestoreScript } from "../restored-vm.ts";
import type { Row } from "../row.ts";
import { MEMORY, Template } from "../template.ts";

/** A whole warm `run`, its VM made and removed, against QEMU alone that restores the same template. */
export const WARM_BARE: Row = {
  name: "warm-bare",
  async run({ home, pairs }) {
    const template = await Template.build(home, MEMORY);
    const script = await RestoreScript.learn(home, template, MEMORY);
    const bare = async (): Promise<number> => {
      await using vm = await script.prepare();
      return await vm.restore();
    };
    const ours = (): Promise<number> => home.hearth("run", "--rm", ...MEMORY, "debian", "--", "true");
    await interleave(2, ours, bare);
    const measured = await interleave(pairs, ours, bare);
    await template.assertUsed();
    return [{ what: "warm run, against bare QEMU", unit: "ms", ...measured, bound: { atMost: 1.35 } }];
  },
};
