/**
 * The store's schema, step by step. A released step is never changed: a new one is added. Each runs in one transaction
 * with the version, so a crash leaves the step before or the step after.
 */
import { STORED_NAMES } from "#daemon/store/stored-names.ts";
import { USER_NETWORK } from "#daemon/store/user-network.ts";

export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE vms (
     id TEXT PRIMARY KEY,
     name TEXT NOT NULL UNIQUE,
     spec TEXT NOT NULL,
     image_digest TEXT NOT NULL,
     state TEXT NOT NULL,
     bound INTEGER NOT NULL DEFAULT 0,
     created_at_ms INTEGER NOT NULL,
     updated_at_ms INTEGER NOT NULL,
     last_used_at_ms INTEGER NOT NULL,
     last_error TEXT
   ) STRICT;
   CREATE INDEX vms_by_age ON vms (created_at_ms DESC, id);

   CREATE TABLE flows (
     id TEXT PRIMARY KEY,
     kind TEXT NOT NULL,
     vm_id TEXT NOT NULL,
     context TEXT NOT NULL,
     started_at_ms INTEGER NOT NULL
   ) STRICT;

   CREATE TABLE flow_steps (
     flow_id TEXT NOT NULL REFERENCES flows (id) ON DELETE CASCADE,
     seq INTEGER NOT NULL,
     step TEXT NOT NULL,
     event TEXT NOT NULL CHECK (event IN ('started', 'done', 'undone')),
     at_ms INTEGER NOT NULL,
     PRIMARY KEY (flow_id, seq)
   ) STRICT;`,
  `UPDATE vms SET spec = json_set(spec, '$.volumes', json('[]'));`,
  `CREATE TABLE snapshots (
     id TEXT PRIMARY KEY,
     kind TEXT NOT NULL,
     name TEXT UNIQUE,
     shape TEXT,
     ready INTEGER NOT NULL DEFAULT 0,
     record TEXT NOT NULL,
     created_at_ms INTEGER NOT NULL,
     last_used_at_ms INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX snapshots_by_shape ON snapshots (kind, shape);`,
  `CREATE TABLE progress (flows INTEGER NOT NULL) STRICT;
   INSERT INTO progress VALUES (0);`,
  // SQLite cannot drop the UNIQUE of a column, so the table is created again.
  `CREATE TABLE new_vms (
     id TEXT PRIMARY KEY,
     owner TEXT NOT NULL,
     name TEXT NOT NULL,
     labels TEXT NOT NULL,
     spec TEXT NOT NULL,
     generation INTEGER NOT NULL,
     image_digest TEXT NOT NULL,
     state TEXT NOT NULL,
     bound INTEGER NOT NULL DEFAULT 0,
     created_at_ms INTEGER NOT NULL,
     updated_at_ms INTEGER NOT NULL,
     last_used_at_ms INTEGER NOT NULL,
     last_error TEXT,
     UNIQUE (owner, name)
   ) STRICT;
   INSERT INTO new_vms SELECT
     id, 'local', name, '{}', spec, 1, image_digest, state, bound, created_at_ms, updated_at_ms, last_used_at_ms,
     last_error
   FROM vms;
   DROP TABLE vms;
   ALTER TABLE new_vms RENAME TO vms;
   CREATE INDEX vms_by_age ON vms (created_at_ms DESC, id);`,
  `ALTER TABLE vms ADD COLUMN desired TEXT NOT NULL DEFAULT 'stopped' CHECK (desired IN ('running', 'stopped'));`,
  `CREATE TABLE new_snapshots (
     id TEXT PRIMARY KEY,
     owner TEXT NOT NULL,
     kind TEXT NOT NULL,
     name TEXT,
     shape TEXT,
     ready INTEGER NOT NULL DEFAULT 0,
     record TEXT NOT NULL,
     created_at_ms INTEGER NOT NULL,
     last_used_at_ms INTEGER NOT NULL,
     UNIQUE (owner, name)
   ) STRICT;
   INSERT INTO new_snapshots SELECT
     id, 'local', kind, name, shape, ready, record, created_at_ms, last_used_at_ms
   FROM snapshots;
   DROP TABLE snapshots;
   ALTER TABLE new_snapshots RENAME TO snapshots;
   CREATE INDEX snapshots_by_shape ON snapshots (kind, shape);`,
  STORED_NAMES,
  USER_NETWORK,
];
