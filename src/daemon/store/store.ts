/** Stores the state of hearthd in one SQLite file. Readers get copies; no other program writes the file. */
import type { DesiredState } from "#model/vm.ts";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { errorChain, HearthError } from "#base/error.ts";
import type { ErrorCode } from "#base/error.ts";
import { databaseError, openDatabase, transaction, withoutSync } from "#daemon/store/database.ts";
import { MIGRATIONS } from "#daemon/store/migrations.ts";
import { Reserve } from "#daemon/store/reserve.ts";
import { isChanged, toVmRecord } from "#daemon/store/vm-rows.ts";
import type { VmRow } from "#daemon/store/vm-rows.ts";
import { StoreAge } from "#daemon/store/store-age.ts";
import type { VmId, VmName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import { LOCAL_OWNER } from "#model/owner.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

export type NewVm = Pick<VmRecord, "id" | "name" | "spec" | "imageDigest" | "state"> & {
  /** None when left out. */
  readonly labels?: Labels | undefined;
  /** True for an ephemeral VM: it ends with its client's connection, and a restarted hearthd removes it. */
  readonly ephemeral: boolean;
};

export type CommitOptions = {
  /** True if the commit may use the space that is kept for a full disk. False when left out. */
  readonly reserve?: boolean;
  /**
   * True if the commit is on the disk when it returns. True when left out. False saves the fdatasync(2): a crash of
   * hearthd loses nothing, and a power cut may lose the commit unless a synced one came after it.
   */
  readonly synced?: boolean;
};

/** The time for another program, such as sqlite3 or a backup tool, to close the file. */
const BUSY_WAIT_MS = 5_000;
const BUSY_POLL_MS = 100;

/**
 * Opens the store. Waits, without blocking the event loop, while another program has its file open.
 * @throws HearthError `store.busy` when it still has after five seconds, and what `openDatabase` throws
 */
export async function openStore(path: string, waitMs = BUSY_WAIT_MS): Promise<Store> {
  const end = performance.now() + waitMs;
  for (;;) {
    try {
      return new Store(path);
    } catch (error) {
      const isBusy = error instanceof HearthError && error.code === "store.busy";
      if (!isBusy || performance.now() >= end) throw error;
    }
    await delay(BUSY_POLL_MS);
  }
}

/**
 * The store's file, which no other program has open. All methods throw HearthError `host.disk_full`, `host.read_only`
 * or `store.corrupt` when the file fails, and `internal.bug` for a bug of Hearth's.
 */
export class Store {
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #now: () => number;
  readonly #statements = new Map<string, StatementSync>();
  readonly #reserve: Reserve;
  readonly #age: StoreAge;

  constructor(path: string, now: () => number = Date.now) {
    this.path = path;
    this.#now = now;
    this.#database = openDatabase(path, MIGRATIONS);
    this.#reserve = new Reserve(`${path}-reserve`);
    this.#reserve.fill();
    this.#age = new StoreAge(this);
  }

  /** True while the directories beside the store are newer than its rows; until `acceptAge`. */
  get isOlder(): boolean {
    return this.#age.isOlder;
  }

  /** Takes the store as current, once its rows were compared with the directories. */
  acceptAge(): void {
    this.#age.accept(this);
  }

  /** Runs `work`, which begins a flow, in a transaction; with `reserve`, also on a full disk. */
  beginFlow(work: () => void, reserve: boolean): void {
    this.transaction(
      () => {
        work();
        this.#age.count(this);
      },
      { reserve },
    );
    this.#age.write(this);
  }

  /** Inserts a VM. @throws HearthError `name.taken` when a VM has the name already */
  insertVm(vm: NewVm): VmRecord {
    const now = this.#now();
    this.#guard(() => {
      this.#assertNameFree(vm.name);
      this.#run(
        `INSERT INTO vms (id, owner, name, labels, spec, generation, image_digest, state, ephemeral,
           created_at_ms, updated_at_ms, last_used_at_ms)
         VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)`,
        [
          vm.id,
          LOCAL_OWNER,
          vm.name,
          JSON.stringify(vm.labels ?? {}),
          JSON.stringify(vm.spec),
          vm.imageDigest,
          JSON.stringify(vm.state),
          Number(vm.ephemeral),
          now,
          now,
          now,
        ],
      );
    });
    return this.getVm(vm.id);
  }

  /** Lists all VMs, the newest first. */
  listVms(): VmRecord[] {
    return this.#guard(() => this.#all("SELECT * FROM vms ORDER BY created_at_ms DESC, id").map(toVmRecord));
  }

  /** The VMs with an idle timeout. hearthd asks each second, so the specs of the others are not parsed. */
  listVmsWithIdleTimeout(): VmRecord[] {
    const sql = `SELECT * FROM vms WHERE instr(spec, '"idleTimeoutMs"') > 0`;
    const named = this.#guard(() => this.#all(sql).map(toVmRecord));
    return named.filter(({ spec }) => spec.idleTimeoutMs !== undefined);
  }

  findVm(nameOrId: string): VmRecord | undefined {
    const row = this.#guard(() =>
      this.#one("SELECT * FROM vms WHERE id = ?1 OR (owner = ?2 AND name = ?1)", nameOrId, LOCAL_OWNER),
    );
    return row === undefined ? undefined : toVmRecord(row);
  }

  /** Returns a VM. @throws HearthError `vm.not_found`, with `asked`, the name that the user gave */
  getVm(nameOrId: string, asked = nameOrId): VmRecord {
    const found = this.findVm(nameOrId);
    if (found !== undefined) return found;
    throw noSuchVm(asked);
  }

  /** Gives a VM another name, labels and spec, as if it was just created. @throws HearthError `name.taken` */
  claimVm(
    id: VmId,
    { name, labels, spec, ephemeral }: Pick<NewVm, "name" | "labels" | "spec" | "ephemeral">,
  ): void {
    const now = this.#now();
    this.#guard(() => {
      this.#assertNameFree(name);
      this.#run(
        `UPDATE vms SET name = ?, labels = ?, spec = ?, generation = 1, ephemeral = ?,
           created_at_ms = ?, updated_at_ms = ?, last_used_at_ms = ?
         WHERE id = ?`,
        [name, JSON.stringify(labels ?? {}), JSON.stringify(spec), Number(ephemeral), now, now, now, id],
      );
    });
  }

  setState(id: VmId, state: VmState): void {
    this.#update(id, "state = ?", JSON.stringify(state));
  }

  /** Stores the desired state, if it differs. */
  setDesired(id: VmId, desired: DesiredState): void {
    if (this.findVm(id)?.desired !== desired) this.#update(id, "desired = ?", desired);
  }

  /** Stores the spec. Increases the generation when it differs in what a user asked for. */
  setSpec(id: VmId, spec: VmSpec): void {
    const before = this.findVm(id);
    const step = before !== undefined && isChanged(before.spec, spec) ? 1 : 0;
    this.#update(id, `generation = generation + ${step}, spec = ?`, JSON.stringify(spec));
  }

  /** Replaces all labels of a VM. */
  setLabels(id: VmId, labels: Labels): void {
    this.#update(id, "labels = ?", JSON.stringify(labels));
  }

  setError(id: VmId, code: ErrorCode, error: unknown): void {
    const lastError = { code, message: errorChain(error), atMs: this.#now() };
    this.#update(id, "last_error = ?", JSON.stringify(lastError));
  }

  touch(id: VmId): void {
    const sql = "UPDATE vms SET last_used_at_ms = ? WHERE id = ?";
    this.transaction(() => this.#run(sql, [this.#now(), id]), { synced: false });
  }

  /** Lists the ephemeral VMs. */
  listEphemeral(): VmRecord[] {
    return this.#guard(() => this.#all("SELECT * FROM vms WHERE ephemeral = 1").map(toVmRecord));
  }

  /** Makes an ephemeral VM a lasting one. */
  keepVm(id: VmId): void {
    this.#update(id, "ephemeral = ?", 0);
  }

  /** Idempotent. */
  deleteVm(id: VmId): void {
    this.transaction(
      () => {
        this.#run("DELETE FROM vms WHERE id = ?", [id]);
        // Nothing of the VM is left to undo.
        this.#run("DELETE FROM flows WHERE vm_id = ?", [id]);
      },
      { reserve: true },
    );
    this.#reserve.fill(); // The removal of its disk has freed space.
  }

  /**
   * Runs `work` as one transaction, or in the transaction that is under way. Other classes use it for their rows in
   * this file. An error of `work` has to pass: it rolls all back.
   */
  transaction<Result>(work: () => Result, { reserve = false, synced = true }: CommitOptions = {}): Result {
    if (this.#database.isTransaction) return this.#guard(work);
    const commit = (): Result => transaction(this.#database, work);
    const all = (): Result => (synced ? commit() : withoutSync(this.#database, commit));
    return reserve ? this.#guardWithReserve(all) : this.#guard(all);
  }

  statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = this.#database.prepare(sql)));
    return statement;
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #update(id: VmId, assignment: string, value: string | number): void {
    this.#guardWithReserve(() =>
      this.#run(`UPDATE vms SET ${assignment}, updated_at_ms = ? WHERE id = ?`, [value, this.#now(), id]),
    );
  }

  #run(sql: string, values: readonly (string | number)[]): void {
    this.statement(sql).run(...values);
  }

  #one(sql: string, ...values: string[]): VmRow | undefined {
    return this.statement(sql).get(...values) as VmRow | undefined;
  }

  #assertNameFree(name: VmName): void {
    if (this.#one("SELECT 1 FROM vms WHERE owner = ? AND name = ?", LOCAL_OWNER, name) !== undefined)
      throw nameTaken(name);
  }

  #all(sql: string): VmRow[] {
    return this.statement(sql).all() as VmRow[];
  }

  #guard<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      throw databaseError(this.path, error);
    }
  }

  /**
   * Runs what has to be written also on a full disk, such as that a VM stops or is removed: one statement or one
   * transaction, of which nothing was done when the disk was full.
   */
  #guardWithReserve<Result>(work: () => Result): Result {
    if (this.#database.isTransaction) return this.#guard(work); // The outermost transaction is run again as a whole.
    try {
      return this.#guard(work);
    } catch (error) {
      const isFull = error instanceof HearthError && error.code === "host.disk_full";
      if (!isFull || !this.#reserve.release()) throw error;
      return this.#guard(work);
    }
  }
}

function nameTaken(name: VmName): HearthError {
  return new HearthError("name.taken", `A VM named ${name} already exists.`, {
    hint: "Choose another name: `hearth ls` lists those in use.",
  });
}

export function noSuchVm(asked: string): HearthError {
  const shown = JSON.stringify(asked.slice(0, 80));
  return new HearthError("vm.not_found", `There is no VM ${shown}.`, { hint: "`hearth ls` lists the VMs." });
}
