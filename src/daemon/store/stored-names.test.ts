import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { MIGRATIONS } from "#daemon/store/migrations.ts";
import { STORED_NAMES } from "#daemon/store/stored-names.ts";

const AT = MIGRATIONS.indexOf(STORED_NAMES);

/** A store of the version before. */
function older(t: TestContext): DatabaseSync {
  const database = new DatabaseSync(":memory:");
  t.after(() => database.close());
  for (const sql of MIGRATIONS.slice(0, AT)) database.exec(sql);
  return database;
}

function addVm(database: DatabaseSync, id: string, spec: string): void {
  database
    .prepare(
      `INSERT INTO vms (id, owner, name, labels, spec, generation, image_digest, state, bound, created_at_ms,
         updated_at_ms, last_used_at_ms) VALUES (?1, 'local', ?1, '{}', ?2, 1, '', '{}', 1, 1, 1, 1)`,
    )
    .run(id, spec);
}

function addSnapshot(database: DatabaseSync, id: string, record: string): void {
  database
    .prepare(
      `INSERT INTO snapshots (id, owner, kind, record, created_at_ms, last_used_at_ms)
       VALUES (?, 'local', 'named', ?, 1, 1)`,
    )
    .run(id, record);
}

function addFlow(database: DatabaseSync, kind: string, lines: readonly string[], context = "{}"): void {
  database.prepare("INSERT INTO flows VALUES ('op', ?, 'vm', ?, 1)").run(kind, context);
  const insert = database.prepare("INSERT INTO flow_steps VALUES ('op', ?, ?, ?, 1)");
  for (const [index, line] of lines.entries()) {
    const [step = "", event = ""] = line.split(": ");
    insert.run(index + 1, step, event);
  }
}

function columnOf(database: DatabaseSync, sql: string): unknown[] {
  return database
    .prepare(sql)
    .all()
    .map((row) => Object.values(row)[0]);
}

/** The last event of each step, as a journal is read. */
function stepsOf(database: DatabaseSync): Record<string, unknown> {
  const rows = database.prepare("SELECT step, event FROM flow_steps ORDER BY seq").all();
  return Object.fromEntries(rows.map(({ step, event }) => [step, event]));
}

test("a spec has its fields by their new names, with the values that they had", (t) => {
  const database = older(t);
  const kept = { image: "debian", env: { origin: "mine", hidden: "idle" }, bootArgs: ["blanks"] };
  const blanks = [{ sizeBytes: 2 ** 40, readOnly: true }];
  addVm(database, "a", JSON.stringify({ ...kept, origin: "sn-a", hidden: "idle", blanks }));
  addVm(database, "b", JSON.stringify({ ...kept, hidden: "urgent", blanks: [] }));
  addVm(database, "c", JSON.stringify(kept));
  database.exec(STORED_NAMES);
  const specs = columnOf(database, "SELECT spec FROM vms ORDER BY id").map((spec) =>
    JSON.parse(String(spec)),
  );
  assert.deepEqual(specs, [
    { ...kept, sourceSnapshot: "sn-a", internal: "background", placeholders: blanks },
    { ...kept, internal: "foreground", placeholders: [] },
    kept,
  ]);
  assert.deepEqual(columnOf(database, "SELECT ephemeral FROM vms"), [1, 1, 1]);
});

test("a snapshot has the new names in its spec and its parts, in the order that they had", (t) => {
  const database = older(t);
  const part = (name: string) => ({ name, sha256: name, sizeBytes: 2 ** 40 });
  const record = {
    spec: { image: "debian", blanks: [] },
    parts: [
      { ...part("memory"), stamp: "1 2 3" },
      { ...part("state"), stamp: "4 5 6" },
    ],
  };
  addSnapshot(database, "a", JSON.stringify(record));
  addSnapshot(database, "b", JSON.stringify({ spec: { image: "debian" }, parts: [] }));
  database.exec(STORED_NAMES);
  const records = columnOf(database, "SELECT record FROM snapshots ORDER BY id").map((text) =>
    JSON.parse(String(text)),
  );
  assert.deepEqual(records, [
    {
      spec: { image: "debian", placeholders: [] },
      parts: [
        { ...part("memory"), fingerprint: "1 2 3" },
        { ...part("state"), fingerprint: "4 5 6" },
      ],
    },
    { spec: { image: "debian" }, parts: [] },
  ]);
});

test("JSON that is damaged stays as it is, and keeps nothing else from being renamed", (t) => {
  const database = older(t);
  const damaged = '{"origin": "sn-a", ';
  addVm(database, "a", damaged);
  addVm(database, "b", '{"origin":"sn-b"}');
  addSnapshot(database, "a", damaged);
  addSnapshot(database, "b", '{"parts":{}}');
  addFlow(database, "start", [], damaged);
  database.exec(STORED_NAMES);
  assert.deepEqual(columnOf(database, "SELECT spec FROM vms"), [damaged, '{"sourceSnapshot":"sn-b"}']);
  assert.deepEqual(columnOf(database, "SELECT record FROM snapshots"), [damaged, '{"parts":{}}']);
  assert.deepEqual(columnOf(database, "SELECT context FROM flows"), [damaged]);
});

test("the plan of a start has its snapshot by the new name", (t) => {
  const database = older(t);
  addFlow(database, "start", [], '{"back":{"phase":"created"},"diskIsNew":true,"origin":"sn-a"}');
  database.exec(STORED_NAMES);
  assert.deepEqual(columnOf(database, "SELECT context FROM flows"), [
    '{"back":{"phase":"created"},"diskIsNew":true,"sourceSnapshot":"sn-a"}',
  ]);
});

const BEGUN = ["make the run folder: started", "make the run folder: done", "lease a uid: started"];
const ACQUIRED = [...BEGUN, "lease a uid: done", "make the cgroup: started", "make the cgroup: done"];
const ENDED = ["end the VMM: started", "end the VMM: done", "lift the walls: started"];

const JOURNALS: readonly { kind: string; title: string; lines: string[]; steps: Record<string, string> }[] = [
  {
    kind: "start",
    title: "that has begun to acquire",
    lines: BEGUN,
    steps: { "acquire host resources": "started" },
  },
  {
    kind: "start",
    title: "that has acquired all",
    lines: ACQUIRED,
    steps: { "acquire host resources": "done" },
  },
  {
    kind: "start",
    title: "whose undo has not got to the first",
    lines: [...ACQUIRED, "make the cgroup: undone", "lease a uid: undone"],
    steps: { "acquire host resources": "done" },
  },
  {
    kind: "start",
    title: "whose undo has got to the first",
    lines: [...ACQUIRED, "make the cgroup: undone", "lease a uid: undone", "make the run folder: undone"],
    steps: { "acquire host resources": "undone" },
  },
  {
    kind: "settle",
    title: "that has begun to acquire",
    lines: ["make the folders: started", "make the folders: done", "lease a uid: started"],
    steps: { "acquire host resources": "started" },
  },
  {
    kind: "stop",
    title: "that has released a part",
    lines: [...ENDED, "lift the walls: done", "remove the run folder: started"],
    steps: { "end the VMM": "done", "release host resources": "started" },
  },
  {
    kind: "stop",
    title: "that has released all",
    lines: [
      ...ENDED,
      "lift the walls: done",
      "remove the run folder: started",
      "remove the run folder: done",
    ],
    steps: { "end the VMM": "done", "release host resources": "done" },
  },
  {
    kind: "remove",
    title: "that has released a part",
    lines: [
      ...ENDED,
      "lift the walls: done",
      "remove the run folder: started",
      "remove the run folder: done",
    ],
    steps: { "end the VMM": "done", "release host resources": "started" },
  },
  {
    kind: "remove",
    title: "that has released all",
    lines: [...ENDED, "lift the walls: done", "remove the jail: started", "remove the jail: done"],
    steps: { "end the VMM": "done", "release host resources": "done" },
  },
  {
    kind: "stop",
    title: "by a newer Hearth",
    lines: ["end the VMM: done", "release what the VM has of the host: started"],
    steps: { "end the VMM": "done", "release host resources": "started" },
  },
  {
    kind: "snapshot",
    title: "that is being finalized",
    lines: ["take the name: done", "make the folder: done", "save: done", "settle: started"],
    steps: { "reserve the name": "done", "make the directory": "done", save: "done", finalize: "started" },
  },
];

for (const { kind, title, lines, steps } of JOURNALS) {
  test(`the journal of a ${kind} ${title} says no more than what was true`, (t) => {
    const database = older(t);
    addFlow(database, kind, lines);
    database.exec(STORED_NAMES);
    assert.deepEqual(stepsOf(database), steps);
    assert.deepEqual(columnOf(database, "SELECT kind FROM flows"), [kind === "settle" ? "finalize" : kind]);
  });
}
