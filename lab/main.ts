/**
 * The lab, for people: `npm run lab -- CMD …` runs a command in a new one and ends with its exit code.
 *
 *   npm run lab -- [--out DIR] CMD …    in a lab of its own, which is gone afterwards
 *   npm run lab -- up                      keep one
 *   npm run lab -- in CMD …                a command in the one that is kept
 *   npm run lab -- shell | down
 */
import { withCleanUp } from "#base/clean-up.ts";
import { Lab } from "./lab.ts";

const KEPT = "lab";
const USAGE = "usage: npm run lab -- up | in CMD … | shell | down | [--out DIR] CMD …";

process.exitCode = await main(process.argv.slice(2));

async function main(words: readonly string[]): Promise<number> {
  const [first, ...rest] = words;
  const kept = new Lab(KEPT);
  switch (first) {
    case undefined:
    case "--help":
      console.error(USAGE);
      return first === undefined ? 2 : 0;
    case "up":
      await kept.up();
      return 0;
    case "in":
      return kept.run(rest);
    case "shell":
      return kept.run(["bash", "-l"]);
    case "down":
      await kept.down();
      return 0;
    case "--out":
      return throwAway(rest.slice(1), rest[0]);
    default:
      return throwAway(words, undefined);
  }
}

async function throwAway(argv: readonly string[], out: string | undefined): Promise<number> {
  if (argv.length === 0) {
    console.error(USAGE);
    return 2;
  }
  const lab = new Lab();
  await lab.up();
  const work = async (): Promise<number> => {
    const code = await lab.run(argv);
    if (out !== undefined) await lab.copyOut(out);
    return code;
  };
  return withCleanUp(work, () => lab.down());
}
