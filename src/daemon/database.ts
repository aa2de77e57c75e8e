/** Opens hearthd's SQLite file: checked, migrated, and safe against a crash of hearthd at any moment. */
import { chmodSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { HearthError, toHearthError } from "#base/error.ts";

const BUSY_TIMEOUT_MS = 5_000;

/**
 * @throws HearthError `store.corrupt`, `store.too_new`, `host.disk_full` or `host.read_only`; the file is
 * left as it is in every case.
 */
export function openDatabase(path: string, migrations: readonly string[]): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path);
    chmodSync(path, 0o600);
    // NORMAL with WAL: a killed process loses nothing; a power cut may lose the last transactions, never
    // the file. What they had made on the host is swept at the next start.
    database.exec(
      `PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;`,
    );
    const check = database.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
    if (check.quick_check !== "ok") throw new Error(check.quick_check);
    migrate(database, path, migrations);
    return database;
  } catch (error) {
    database?.close();
    throw databaseError(path, error);
  }
}

function migrate(database: DatabaseSync, path: string, migrations: readonly string[]): void {
  const { user_version: version } = database.prepare("PRAGMA user_version").get() as { user_version: number };
  if (version > migrations.length) {
    throw new HearthError(
      "store.too_new",
      `${path} has version ${version}; this hearthd knows ${migrations.length}.`,
      {
        hint: "Run the newer Hearth that wrote it, or set HEARTH_HOME to another folder.",
      },
    );
  }
  for (const [index, sql] of migrations.entries()) {
    if (index < version) continue;
    transaction(database, () => database.exec(`${sql}; PRAGMA user_version = ${index + 1};`));
  }
}

/** All of `work`, or none of it. */
export function transaction<Result>(database: DatabaseSync, work: () => Result): Result {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

/** SQLite's result codes that a person can do something about: sqlite.org/rescode.html. */
const SQLITE = { readOnly: 8, ioError: 10, corrupt: 11, full: 13, cannotOpen: 14, notADatabase: 26 } as const;

/** What SQLite threw, as what a person can do something about. */
export function databaseError(path: string, error: unknown): HearthError {
  if (error instanceof HearthError) return error;
  const code = (error as { errcode?: number }).errcode;
  const primary = code === undefined ? undefined : code & 0xff;
  if (primary === SQLITE.full) {
    return new HearthError("host.disk_full", `The disk is full at ${path}.`, {
      hint: "Free some space, then try again; nothing was lost.",
      cause: error,
    });
  }
  if (
    primary === SQLITE.readOnly ||
    primary === SQLITE.cannotOpen ||
    (primary === SQLITE.ioError && code !== undefined)
  ) {
    return new HearthError("host.read_only", `${path} cannot be opened for writing.`, {
      hint: "Make its folder exist and be writable, or set HEARTH_HOME to another folder.",
      cause: error,
    });
  }
  const system = toHearthError(error);
  if (system.code !== "internal.bug" && primary === undefined) return system;
  return new HearthError("store.corrupt", `${path} is not a sound database.`, {
    hint: `Move it away and its VMs' folders with it (mv ${path} ${path}.broken), or restore it from a backup.`,
    cause: error,
  });
}
