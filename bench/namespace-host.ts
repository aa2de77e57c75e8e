/**
 * A host with the networks of some VMs, in a network namespace of its own, which `rows/namespaces.ts` starts. Makes and
 * removes one more for each line of stdin, and prints how long making it took, in milliseconds.
 */
import { join } from "node:path";
import { createInterface } from "node:readline";
import { networkPrograms, VmNetworks } from "#helper/vm-networks.ts";
import { parseVmId } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";

const [, , dir = "", count = "0"] = process.argv;
const FIRST_UID = 1_970_100_000;
const PROGRAMS = networkPrograms(join(import.meta.dirname, "../build/agent"));
const { signal: never } = new AbortController();
/** Returns an id of letters, which is all that every id may have. */
const idOf = (at: number): string =>
  `vm-${String(at)
    .replaceAll(/\d/g, (digit) => "abcdefghij".charAt(Number(digit)))
    .padStart(12, "z")}`;
const networks = new VmNetworks(dir, PROGRAMS, "bench", () => FIRST_UID);
const make = (at: number): Promise<void> =>
  networks.make(parseVmId(idOf(at)), { mac: "02:00:00:00:00:0a", policy: INTERNET }, never);
const remove = (at: number): Promise<void> => networks.remove(parseVmId(idOf(at)), never);

const last = Number(count);
for (let at = 0; at < last; at++) await make(at);
console.log("ready");
for await (const _ of createInterface(process.stdin)) {
  const startedMs = performance.now();
  await make(last);
  console.log(performance.now() - startedMs);
  await remove(last);
}
for (let at = 0; at < last; at++) await remove(at);
