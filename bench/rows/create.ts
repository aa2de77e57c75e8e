import type { Row } from "../row.ts";

const MIB = 1024 ** 2;

/** Disk blocks that one VM more takes before it runs. */
export const CREATE: Row = {
  name: "create",
  async run({ home, pairs }) {
    const ours: number[] = [];
    for (let at = 0; at < pairs; at++) {
      const before = home.diskBytes();
      await home.hearth("create", "--no-start", "--name", "bench-create", "debian");
      ours.push((home.diskBytes() - before) / MIB);
      await home.hearth("rm", "bench-create");
    }
    return [{ what: "create: new disk blocks", unit: "MiB", ours, bound: { atMost: 8 } }];
  },
};
