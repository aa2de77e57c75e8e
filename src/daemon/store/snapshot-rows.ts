/** Reads and writes the rows of snapshots in the store. */
import { HearthError } from "#base/error.ts";
import type { Store } from "#daemon/store/store.ts";
import type { SnapshotId } from "#model/ids.ts";
import { LOCAL_OWNER } from "#model/owner.ts";
import type { Owner } from "#model/owner.ts";
import type { SnapshotKind, SnapshotPart, SnapshotRecord } from "#model/snapshot.ts";

type Row = { owner: string; record: string; ready: number; last_used_at_ms: number };
export type NewSnapshot = Omit<SnapshotRecord, "owner" | "labels" | "ready" | "lastUsedAtMs"> &
  Partial<Pick<SnapshotRecord, "labels">>;

/** All methods throw what the store throws. */
export class SnapshotRows {
  readonly #store: Store;
  readonly #now: () => number;

  constructor(store: Store, now: () => number = Date.now) {
    this.#store = store;
    this.#now = now;
  }

  /** Inserts a row that is not ready. @throws HearthError `name.taken` */
  insert(snapshot: NewSnapshot): void {
    const { id, kind, name, shape, createdAtMs } = snapshot;
    // Nothing is awaited between the check and the insert.
    if (name !== undefined && this.find(name) !== undefined)
      throw new HearthError("name.taken", `A snapshot named ${name} already exists.`, {
        hint: "Choose another name: `hearth snapshot ls` lists those in use.",
      });
    this.#store.transaction(() => {
      this.#store
        .statement(
          `INSERT INTO snapshots (id, owner, kind, name, shape, record, created_at_ms, last_used_at_ms)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(
          id,
          LOCAL_OWNER,
          kind,
          name ?? null,
          shape?.key ?? null,
          JSON.stringify(snapshot),
          createdAtMs,
          this.#now(),
        );
    });
  }

  /** Marks the snapshot as ready: every part of it exists. */
  setReady(id: SnapshotId, parts: readonly SnapshotPart[]): void {
    const sql = "UPDATE snapshots SET ready = 1, record = json_set(record, '$.parts', json(?)) WHERE id = ?";
    this.#store.transaction(() => this.#store.statement(sql).run(JSON.stringify(parts), id));
  }

  /** Notes that the snapshot was used just now, if it exists. */
  touchIfThere(id: SnapshotId | undefined): void {
    if (id === undefined) return;
    const sql = "UPDATE snapshots SET last_used_at_ms = ? WHERE id = ?";
    this.#store.transaction(() => this.#store.statement(sql).run(this.#now(), id), { synced: false });
  }

  /** Hides the snapshot before it is deleted: it is no longer listed, and no VM starts from it. Idempotent. */
  unlist(id: SnapshotId): void {
    const sql = "UPDATE snapshots SET ready = 0, name = NULL WHERE id = ?";
    this.#store.transaction(() => this.#store.statement(sql).run(id), { reserve: true });
  }

  /** Idempotent. */
  delete(id: SnapshotId): void {
    this.#store.transaction(() => this.#store.statement("DELETE FROM snapshots WHERE id = ?").run(id), {
      reserve: true,
    });
  }

  /** Lists all, the newest first; also those that are not ready. */
  list(): SnapshotRecord[] {
    return this.#all("SELECT * FROM snapshots ORDER BY created_at_ms DESC, id");
  }

  find(nameOrId: string): SnapshotRecord | undefined {
    return this.#all(
      "SELECT * FROM snapshots WHERE id = ?1 OR (owner = ?2 AND name = ?1)",
      nameOrId,
      LOCAL_OWNER,
    )[0];
  }

  /**
   * Returns a snapshot that is ready.
   * @param kind restricts the kind, for names and ids that a user gives
   * @throws HearthError `snapshot.not_found`, also for one that is not ready
   */
  get(nameOrId: string, kind?: "named" | "warm"): SnapshotRecord {
    const found = this.find(nameOrId);
    if (found?.ready && (kind === undefined || found.kind === kind)) return found;
    const shown = JSON.stringify(nameOrId.slice(0, 80));
    const noun = kind === "warm" ? "template" : "snapshot";
    throw new HearthError("snapshot.not_found", `There is no ${noun} ${shown}.`, {
      hint: `\`hearth ${noun} ls\` lists them.`,
    });
  }

  /** Returns a snapshot that need not be ready. @throws HearthError `snapshot.not_found` */
  known(id: SnapshotId): SnapshotRecord {
    return this.find(id) ?? this.get(id);
  }

  /** Returns the newest of this kind and compatibility key that is ready. */
  findByShape(kind: SnapshotKind, key: string): SnapshotRecord | undefined {
    const sql =
      "SELECT * FROM snapshots WHERE kind = ? AND shape = ? AND ready = 1 ORDER BY created_at_ms DESC";
    return this.#all(sql, kind, key)[0];
  }

  #all(sql: string, ...values: string[]): SnapshotRecord[] {
    const rows = this.#store.transaction(() => this.#store.statement(sql).all(...values)) as Row[];
    return rows.flatMap(toRecord);
  }
}

/** Returns nothing for a damaged row: no VM can start from it, and the others can be read. */
function toRecord({ owner, record, ready, last_used_at_ms: lastUsedAtMs }: Row): SnapshotRecord[] {
  try {
    const saved = JSON.parse(record) as NewSnapshot;
    const { labels = {} } = saved; // Rows of an earlier Hearth have none.
    return [{ ...saved, labels, owner: owner as Owner, ready: ready === 1, lastUsedAtMs }];
  } catch {
    return []; // Its directory is moved to lost+found at the next start.
  }
}
