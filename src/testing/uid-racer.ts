/** Runs as one of several processes that take a uid at the same moment, from a new directory of leases each round. */
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { UidLeases } from "#helper/uid-leases.ts";
import { parseVmId } from "#model/ids.ts";

/** For Node to run, with a `UidRace` as JSON; it prints the uids that it took, one for each round. */
export const UID_RACER = fileURLToPath(import.meta.url);

export type UidRace = {
  readonly dir: string;
  readonly name: "a" | "b" | "c";
  readonly racers: number;
  readonly rounds: number;
  readonly stateDir: string;
  readonly first: number;
};

if (process.argv[1] === UID_RACER) console.log(JSON.stringify(await race(JSON.parse(process.argv[2] ?? ""))));

async function race({ dir, name, racers, rounds, stateDir, first }: UidRace): Promise<number[]> {
  const vm = parseVmId(`vm-${name.repeat(12)}`);
  const uids: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const leases = new UidLeases(join(dir, String(round)), { first, count: racers });
    meet(join(dir, `meeting-${round}`), name, racers);
    uids.push(await leases.take(vm, stateDir));
  }
  return uids;
}

/** Returns within microseconds of the others: a process that sleeps would wake too late to be in their way. */
function meet(path: string, name: string, racers: number): void {
  writeFileSync(`${path}-${name}`, "");
  const everybody = ["a", "b", "c"].slice(0, racers);
  while (!everybody.every((one) => existsSync(`${path}-${one}`)));
}
