import type { HearthHome } from "../hearth-home.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { MEMORY, Template } from "../template.ts";

const FORKS = 10;
const SOURCE = "bench-fork";
const NAMES = Array.from({ length: FORKS }, (_, index) => `${SOURCE}-${index + 1}`);

type Took = { readonly forkMs: number; readonly execMs: number };

/** A tenth of `fork -n 10` against a whole warm `run`; once as it is, and once with a command in each copy. */
export const FORK: Row = {
  name: "fork",
  async run({ home, pairs }) {
    const template = await Template.build(home, MEMORY);
    await home.hearth("create", "--name", SOURCE, ...MEMORY, "debian");
    const took: Took[] = [];
    const ours = async (): Promise<number> => {
      const { forkMs, execMs } = await forkAndExec(home);
      took.push({ forkMs, execMs });
      return forkMs / FORKS;
    };
    const warm = (): Promise<number> => home.hearth("run", "--rm", ...MEMORY, "debian", "--", "true");
    await interleave(1, ours, warm);
    took.length = 0;
    const measured = await interleave(pairs, ours, warm);
    await home.hearth("rm", "-f", SOURCE);
    await template.assertUsed();
    const untilExec = took.map(({ forkMs, execMs }) => (forkMs + execMs) / FORKS);
    const kind = { unit: "ms", bound: { atMost: 0.5 } } as const;
    return [
      { what: `fork -n ${FORKS}, one of them`, ...kind, ...measured },
      { what: "one, to its first exec", ...kind, ...measured, ours: untilExec },
    ];
  },
};

/** Takes the copies away again; that is not measured. */
async function forkAndExec(home: HearthHome): Promise<Took> {
  const hearth = await home.connect();
  const forkMs = await home.hearth("fork", "-n", String(FORKS), SOURCE);
  const startedMs = performance.now();
  await Promise.all(NAMES.map((name) => hearth.vm(name).exec(["true"])));
  const execMs = performance.now() - startedMs;
  await home.hearth("rm", "-f", ...NAMES);
  return { forkMs, execMs };
}
