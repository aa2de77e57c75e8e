import type { Line } from "../line.ts";
import { interleave, median } from "../pairs.ts";
import { PauseWatch, watchFlags } from "../pause-watch.ts";
import type { Row } from "../row.ts";
import { MEMORY, Template } from "../template.ts";

const REPEATS_FACTOR = 5;
const VM = "bench-pause";
const COPY = "bench-pause-copy";
const SNAPSHOT = "bench-pause-saved";
/** The guest is heard over its network. */
const FLAGS = [...MEMORY, "--network", "nat"];
const QUIET_MS = 3_000;

/** Measures how long an idle VM is paused by a fork, and by a snapshot. */
export const PAUSE: Row = {
  name: "pause",
  async run({ home, pairs, say }) {
    const template = await Template.build(home, FLAGS);
    const { port, flags } = await watchFlags();
    await home.hearth("create", "--name", VM, ...FLAGS, ...flags, "debian");
    await template.assertUsed();
    using watch = await PauseWatch.start(home, VM, port);
    const fork = async (): Promise<number> => {
      const pauseMs = await watch.during(() => home.hearth("fork", "--name", COPY, VM));
      await home.hearth("rm", "-f", COPY);
      return pauseMs;
    };
    const save = async (): Promise<number> => {
      const pauseMs = await watch.during(() => home.hearth("snapshot", "create", VM, SNAPSHOT));
      await home.hearth("snapshot", "rm", SNAPSHOT);
      return pauseMs;
    };
    await interleave(1, fork, save);
    const noise = await watch.during(() => new Promise((resolve) => setTimeout(resolve, QUIET_MS)));
    say(`pause: ${noise.toFixed(0)} ms is the longest while nothing is done`);
    const { ours: forks, other: saves } = await interleave(pairs * REPEATS_FACTOR, fork, save);
    await home.hearth("rm", "-f", VM);
    return [...linesOf("fork", forks), ...linesOf("snapshot create", saves)];
  },
};

/** The pauses, and whether they grow. */
function linesOf(what: string, pauses: readonly number[]): Line[] {
  const half = Math.floor(pauses.length / 2);
  const [first, later] = [median(pauses.slice(0, half)), median(pauses.slice(-half))];
  return [
    { what: `${what}: paused`, unit: "ms", ours: pauses, bound: { atMost: 100 } },
    { what: "later half, to the first", unit: "ms", ours: [later], other: [first], bound: { atMost: 1.3 } },
  ];
}
