import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BareVm } from "../bare-vm.ts";
import { interleave } from "../pairs.ts";
import type { Pairs } from "../pairs.ts";
import type { Row } from "../row.ts";
import { COLD } from "../template.ts";
import { execThrough, zeros } from "../transfer.ts";

const MIB = 1024 ** 2;
const FILE_MIB = 100;
/** Memory on both sides, so that no disk is measured. */
const HOST_TMPFS = "/dev/shm";
const GUEST_FILE = "/dev/shm/file";

/** A whole `cp` against the agent's own stream: the same bytes between a `cat` in the guest and this process. */
export const CP: Row = {
  name: "cp",
  async run({ home, shape, pairs }) {
    const dir = mkdtempSync(join(HOST_TMPFS, "hearth-bench-"));
    try {
      const file = join(dir, "file");
      writeFileSync(file, Buffer.alloc(FILE_MIB * MIB));
      await home.hearth("create", "--name", "bench-cp", ...COLD, "debian");
      await using bare = await BareVm.prepare(home, shape);
      await bare.boot();
      const copyIn = (): Promise<number> => home.hearth("cp", file, `bench-cp:${GUEST_FILE}`);
      const copyOut = (): Promise<number> => home.hearth("cp", `bench-cp:${GUEST_FILE}`, join(dir, "back"));
      const rawIn = (): Promise<number> => streamIn(bare);
      const rawOut = (): Promise<number> => streamOut(bare);
      await interleave(1, copyIn, rawIn);
      const into = await interleave(pairs, copyIn, rawIn);
      await interleave(1, copyOut, rawOut);
      const out = await interleave(pairs, copyOut, rawOut);
      await home.hearth("rm", "-f", "bench-cp");
      const kind = { unit: "MB/s", bound: { atLeast: 0.7 } } as const;
      return [
        { what: `cp ${FILE_MIB} MiB into a VM`, ...kind, ...throughput(into) },
        { what: `cp ${FILE_MIB} MiB out of a VM`, ...kind, ...throughput(out) },
      ];
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  },
};

async function streamIn(vm: BareVm): Promise<number> {
  const startedMs = performance.now();
  await execThrough(vm.agent, ["sh", "-c", `cat >${GUEST_FILE}`], zeros(FILE_MIB * MIB));
  return performance.now() - startedMs;
}

async function streamOut(vm: BareVm): Promise<number> {
  const startedMs = performance.now();
  const bytes = await execThrough(vm.agent, ["cat", GUEST_FILE]);
  if (bytes !== FILE_MIB * MIB) throw new Error(`The stream carried ${bytes} bytes.`);
  return performance.now() - startedMs;
}

function throughput({ ours, other }: Pairs): Pairs {
  const rate = (tookMs: number): number => (FILE_MIB * MIB) / 1e6 / (tookMs / 1000);
  return { ours: ours.map(rate), other: other.map(rate) };
}
