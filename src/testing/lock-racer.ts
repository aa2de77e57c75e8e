/** Runs as one of two threads that ask for the same lock at the same moment, a new lock each round. */
import { join } from "node:path";
import { isMainThread, workerData } from "node:worker_threads";
import { tryFileLock } from "#host/file-lock.ts";

/** The program of the thread. */
export const LOCK_RACER = new URL(import.meta.url);
/** A round has four words of the shared memory: who got the lock, and at three meeting points who is there. */
export const LOCK_RACE_WORDS = 4;
const RACERS = 2;

type Race = { readonly shared: SharedArrayBuffer; readonly dir: string; readonly rounds: number };

if (!isMainThread) race(workerData as Race);

function race({ shared, dir, rounds }: Race): void {
  const words = new Int32Array(shared);
  for (let round = 0; round < rounds; round++) {
    const first = round * LOCK_RACE_WORDS;
    meet(words, first + 1);
    const lock = tryFileLock(join(dir, `${round}.lock`));
    if (lock !== undefined) Atomics.add(words, first, 1);
    meet(words, first + 2);
    lock?.[Symbol.dispose]();
    meet(words, first + 3);
  }
}

/** Goes on within nanoseconds of the other: a thread that sleeps would wake too late to be in its way. */
function meet(words: Int32Array, at: number): void {
  Atomics.add(words, at, 1);
  while (Atomics.load(words, at) < RACERS);
}
