import type { Row } from "../row.ts";
import { MEMORY, Template } from "../template.ts";
import { ownDiskBytes } from "../vm-cost.ts";

const MIB = 1024 ** 2;
const FIRST = "bench-disk-1";
const SECOND = "bench-disk-2";

/** Disk blocks that a second warm VM takes until its first command has ended. */
export const SHARED_DISK: Row = {
  name: "shared-disk",
  async run({ home, pairs }) {
    const template = await Template.build(home, MEMORY);
    await home.hearth("create", "--name", FIRST, ...MEMORY, "debian");
    const second = (await home.connect()).vm(SECOND);
    const ours: number[] = [];
    for (let at = 0; at < pairs; at++) {
      await home.hearth("create", "--name", SECOND, ...MEMORY, "debian");
      await home.hearth("exec", SECOND, "--", "true");
      ours.push((await ownDiskBytes(second)) / MIB);
      await home.hearth("rm", "-f", SECOND);
    }
    await home.hearth("rm", "-f", FIRST);
    await template.assertUsed();
    return [{ what: "warm VM: new disk blocks", unit: "MiB", ours, bound: { atMost: 1 } }];
  },
};
