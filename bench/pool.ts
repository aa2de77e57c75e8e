/** A pool of one VM in a hearthd of its own. Nobody but hearthd's database tells whether one waits. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import type { VmState } from "#model/vm-state.ts";
import type { HearthHome } from "./hearth-home.ts";

/** The shape of `MEMORY`. */
const CONFIG = '[pool.bench]\nimage = "debian"\nmemory = "512M"\ncount = 1\n';
/** It makes its template first. */
const FULL_MS = 180_000;
const POLL_MS = 50;
/** From the moment that the VM is stored as paused until it may be taken, with room. */
const TAKEN_MS = 200;

export class Pool {
  readonly #database: string;

  /** For a home whose hearthd is yet to start. */
  constructor(home: HearthHome) {
    home.configure(CONFIG);
    this.#database = join(home.folders.state, "hearth.db");
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

  #waiting(): string | undefined {
    if (!existsSync(this.#database)) return undefined;
    const database = new DatabaseSync(this.#database, { readOnly: true });
    try {
      const rows = database.prepare("SELECT id, state FROM vms").all() as { id: string; state: string }[];
      return rows.find(({ state }) => (JSON.parse(state) as VmState).phase === "paused")?.id;
    } finally {
      database.close();
    }
  }
}
