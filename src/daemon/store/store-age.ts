/**
 * Finds out whether the store is older than the directories beside it, as after a restore from a backup: what its rows
 * and journals say of a VM may no longer be true. The store counts the flows that were begun, and the same number is in
 * a second file, which a backup of the store does not bring back.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Store } from "#daemon/store/store.ts";

export class StoreAge {
  readonly #path: string;
  /** True until `accept`. */
  isOlder: boolean;

  constructor(store: Store) {
    this.#path = `${store.path}-flows`;
    this.isOlder = readNumber(this.#path) > flowsOf(store);
  }

  /** Counts a flow. Called in the transaction that begins it. */
  count(store: Store): void {
    store.statement("UPDATE progress SET flows = flows + 1").run();
  }

  /** Writes the number to the file, after the commit: the file is never ahead of the store. */
  write(store: Store): void {
    if (this.isOlder) return;
    try {
      writeFileSync(this.#path, String(flowsOf(store)), { mode: 0o600 });
    } catch {
      // On a full disk, for example, the flow is more important. A store from a backup is not recognized until the next
      // flow.
      rmSync(this.#path, { force: true });
    }
  }

  /** Takes the store as current, once its rows were compared with the directories. */
  accept(store: Store): void {
    if (!this.isOlder) return;
    const known = readNumber(this.#path);
    store.transaction(() => store.statement("UPDATE progress SET flows = ?").run(known));
    this.isOlder = false;
  }
}

function flowsOf(store: Store): number {
  return Number(store.statement("SELECT flows FROM progress").get()?.["flows"]);
}

/** Returns 0 for a file that does not exist, or was torn by a power cut: then nothing is known. */
function readNumber(path: string): number {
  try {
    const text = readFileSync(path, "utf8");
    return /^\d{1,15}$/.test(text) ? Number(text) : 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
    throw error;
  }
}
