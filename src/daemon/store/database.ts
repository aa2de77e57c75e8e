/** Opens hearthd's SQLite file: checked, migrated, and safe against a crash of hearthd at any moment. */
import { chmodSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { HearthError, toHearthError } from "#base/error.ts";

/**
 * Opens the file for hearthd alone: no other program reads or writes it until it is closed, so that none can have a
 * lock when hearthd has to write (decision 0018).
 * @throws HearthError `store.corrupt`, `store.busy`, `store.too_new`, `host.disk_full` or `host.read_only`; the file is
 * left as it is in every case
 */
export function openDatabase(path: string, migrations: readonly string[]): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    // SQLite does not wait for a lock, which would block hearthd; `openStore` does.
    database = new DatabaseSync(path, { timeout: 0 });
    chmodSync(path, 0o600);
    // FULL: each commit is on the disk when it returns. With NORMAL a power cut loses the commits of the last seconds,
    // and files that only those rows name would be orphans. Costs one fdatasync(2) of the WAL for each transaction.
    database.exec(
      `PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;`,
    );
    const check = database.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
    if (check.quick_check !== "ok") throw corruptStore(path, new Error(check.quick_check));
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
      `${path} has the schema version ${version}; this hearthd supports ${migrations.length}.`,
      {
        hint: "Run the newer Hearth that wrote it, or set HEARTH_HOME to another directory.",
      },
    );
  }
  for (const [index, sql] of migrations.entries()) {
    if (index < version) continue;
    transaction(database, () => database.exec(`${sql}; PRAGMA user_version = ${index + 1};`));
  }
}

/** Runs `work` in one transaction: all of it is committed, or nothing. */
export function transaction<Result>(database: DatabaseSync, work: () => Result): Result {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    try {
      if (database.isTransaction) database.exec("ROLLBACK");
    } catch (later) {
      throw new SuppressedError(later, error, "A transaction could not be rolled back.");
    }
    throw error;
  }
}

/** Commits `work` without waiting for the disk. The next synced commit syncs it too. */
export function withoutSync<Result>(database: DatabaseSync, work: () => Result): Result {
  database.exec("PRAGMA synchronous = NORMAL");
  try {
    return work();
  } finally {
    database.exec("PRAGMA synchronous = FULL");
  }
}

/** SQLite's result codes that a user can do something about: sqlite.org/rescode.html. */
const SQLITE = {
  busy: 5,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  notADatabase: 26,
} as const;

/**
 * Turns an error of SQLite into one that says what a user can do. Only what SQLite itself calls corrupt is
 * `store.corrupt`; the rest, such as a constraint or a closed database, is a bug of Hearth's.
 */
export function databaseError(path: string, error: unknown): HearthError {
  if (error instanceof HearthError) return error;
  const code = (error as { errcode?: number } | undefined)?.errcode;
  switch (code === undefined ? undefined : code & 0xff) {
    case SQLITE.full:
      return new HearthError("host.disk_full", `The disk is full at ${path}.`, {
        hint: "Free some space, then try again; nothing was lost.",
        cause: error,
      });
    case SQLITE.readOnly:
    case SQLITE.cannotOpen:
    case SQLITE.ioError:
      return new HearthError("host.read_only", `Cannot open ${path} for writing.`, {
        hint: "Make its directory writable, or set HEARTH_HOME to another directory.",
        cause: error,
      });
    case SQLITE.busy:
      return new HearthError("store.busy", `Cannot open ${path}: another program has it open.`, {
        hint: `Close that program, such as sqlite3 or a backup tool, then try again. \`fuser -v ${path}\` shows it.`,
        cause: error,
      });
    case SQLITE.corrupt:
    case SQLITE.notADatabase:
      return corruptStore(path, error);
    default:
      return toHearthError(error);
  }
}

function corruptStore(path: string, cause: unknown): HearthError {
  return new HearthError("store.corrupt", `The database ${path} is damaged.`, {
    hint:
      `Nothing was changed. Restore it from a backup. Without one, move ${path} and the files beside it that begin ` +
      "with its name to another directory, together: hearthd then starts with an empty store, deletes no disk, and " +
      "`hearth system recover` lists what can be recovered.",
    cause,
  });
}
