import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Store } from "#daemon/store/store.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import type { VmShape } from "../bare-vm.ts";
import { HearthHome } from "../hearth-home.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";

const MANY = 1_000;
const FEW = 10;
const PAIRS_FACTOR = 3;

/** `ls` of a hearthd with many VMs against one with few. The VMs are rows of the store that never ran. */
export const LS: Row = {
  name: "ls",
  async run({ shape, pairs }) {
    await using many = new HearthHome();
    await using few = new HearthHome();
    fillStore(many, MANY, shape);
    fillStore(few, FEW, shape);
    const ours = (): Promise<number> => many.hearth("ls");
    const other = (): Promise<number> => few.hearth("ls");
    // The first ones start the two hearthds.
    await interleave(2, ours, other);
    const measured = await interleave(pairs * PAIRS_FACTOR, ours, other);
    return [{ what: `ls of ${MANY} VMs, against ${FEW}`, unit: "ms", ...measured, bound: { atMost: 1.5 } }];
  },
};

function fillStore(home: HearthHome, count: number, shape: VmShape): void {
  mkdirSync(home.dirs.state, { recursive: true, mode: 0o700 });
  const store = new Store(join(home.dirs.state, "hearth.db"));
  const { digest, cpus, memoryBytes, diskBytes } = shape;
  store.transaction(() => {
    for (let at = 0; at < count; at++) {
      store.insertVm({
        id: vmIdFrom(randomBytes(12)),
        name: parseVmName(`row-${at}`),
        imageDigest: digest,
        state: { phase: "created" },
        ephemeral: false,
        spec: {
          image: parseImageRef("debian"),
          cpus,
          memoryBytes,
          diskBytes,
          volumes: [],
          network: "none",
          init: "agent",
          nested: false,
          isolation: FULL_ISOLATION,
          bootArgs: [],
          env: {},
          autoRemove: false,
        },
      });
    }
  });
  store.close();
}
