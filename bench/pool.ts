/** A pool of one VM in a hearthd of its own. Nobody but hearthd's log tells whether one waits. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { HearthHome } from "./hearth-home.ts";

/** The shape of `MEMORY`. */
const CONFIG = '[pool.bench]\nimage = "debian"\nmemory = "512M"\ncount = 1\n';
/** It makes its template first. */
const FULL_MS = 180_000;
const POLL_MS = 50;
/** From the moment that the VM is stored as paused until it may be taken, with room. */
const TAKEN_MS = 200;

export class Pool {
  readonly #log: string;

  /** For a home whose hearthd is yet to start. */
  constructor(home: HearthHome) {
    home.configure(CONFIG);
    this.#log = join(home.dirs.state, "hearthd.log");
  }

  /** Resolves when a VM waits, with its id. */
  async full(): Promise<string> {
    const lateMs = performance.now() + FULL_MS;
    for (;;) {
      const waiting = this.#waiting();
      if (waiting !== undefined) {
        await sleep(TAKEN_MS);
        return waiting;
      }
      if (performance.now() > lateMs) throw new Error(`The pool was not full in ${FULL_MS} ms.`);
      await sleep(POLL_MS);
    }
  }

  /** The last VM that was paused, as hearthd's log tells: nobody else can read its store. */
  #waiting(): string | undefined {
    if (!existsSync(this.#log)) return undefined;
    const phases = new Map<string, string>();
    for (const line of readFileSync(this.#log, "utf8").split("\n").slice(0, -1)) {
      if (!line.includes('"vm.phase"')) continue;
      const { vm, to } = JSON.parse(line) as { vm: string; to: string };
      phases.set(vm, to);
    }
    return [...phases].find(([, phase]) => phase === "paused")?.[0];
  }
}
