/**
 * The migration that gives columns, fields and steps of journals the names of the glossary. As with every released
 * migration, nothing in here changes with the code that it was written for.
 *
 * JSON that is damaged stays as it is: its VM or snapshot is shown as such.
 */

type Rename = { readonly from: string; readonly to: string };

const SPEC_FIELDS: readonly Rename[] = [
  { from: "origin", to: "sourceSnapshot" },
  { from: "hidden", to: "internal" },
  { from: "blanks", to: "placeholders" },
];

const STEPS: readonly Rename[] = [
  { from: "take the name", to: "reserve the name" },
  { from: "make the folder", to: "make the directory" },
  { from: "remove the folder", to: "delete the directory" },
  { from: "acquire what the VM needs of the host", to: "acquire host resources" },
  { from: "release what the VM has of the host", to: "release host resources" },
  { from: "forget the saved memory", to: "delete the suspended memory" },
  { from: "give the name back", to: "release the name" },
  { from: "give the identity", to: "configure the guest" },
  { from: "settle", to: "finalize" },
];

/** SQL for JSON with these fields renamed, in the object at `path`. */
function renamed(json: string, fields: readonly Rename[], path = "$"): string {
  return fields.reduce(
    (sql, { from, to }) =>
      `CASE WHEN json_type(${json}, '${path}.${from}') IS NULL THEN ${sql}
       ELSE json_remove(json_set(${sql}, '${path}.${to}', ${json} -> '${path}.${from}'), '${path}.${from}') END`,
    json,
  );
}

function update(table: string, column: string, value: string): string {
  return `UPDATE ${table} SET ${column} = CASE WHEN json_valid(${column}) THEN ${value} ELSE ${column} END;`;
}

/** Priorities of internal VMs. Work for a user was `urgent`, and work that may wait `idle`. */
const PRIORITIES = `
  UPDATE vms SET spec = json_set(spec, '$.internal',
    CASE spec ->> '$.internal' WHEN 'idle' THEN 'background' ELSE 'foreground' END)
  WHERE CASE WHEN json_valid(spec) THEN spec ->> '$.internal' END IN ('urgent', 'idle');`;

/**
 * Steps of an older Hearth that are one step now, up to three. The one has begun when the first of them has, and is
 * done when the last one is: a journal must not say of all what was true of one. They are undone in reverse, so that
 * with the first all are.
 */
const JOINED_STEPS = `
  DELETE FROM flow_steps WHERE
    (step IN ('make the run folder', 'make the folders') AND event = 'done')
    OR step = 'lease a uid'
    OR (step = 'make the cgroup' AND event <> 'done')
    OR (step = 'lift the walls' AND event <> 'started')
    OR (step = 'remove the run folder' AND NOT (event = 'done' AND (
      SELECT kind FROM flows WHERE id = flow_id) = 'stop'))
    OR (step = 'remove the jail' AND event <> 'done');
  UPDATE flow_steps SET step = 'acquire host resources'
    WHERE step IN ('make the run folder', 'make the folders', 'make the cgroup');
  UPDATE flow_steps SET step = 'release host resources'
    WHERE step IN ('lift the walls', 'remove the run folder', 'remove the jail');`;

export const STORED_NAMES = [
  "ALTER TABLE vms RENAME COLUMN bound TO ephemeral;",
  update("vms", "spec", renamed("spec", SPEC_FIELDS)),
  PRIORITIES,
  update("snapshots", "record", renamed("record", SPEC_FIELDS, "$.spec")),
  update(
    "snapshots",
    "record",
    `CASE WHEN json_type(record, '$.parts') = 'array' THEN json_set(record, '$.parts', (
       SELECT json_group_array(json(${renamed("value", [{ from: "stamp", to: "fingerprint" }])}))
       FROM json_each(record, '$.parts') WHERE type = 'object')) ELSE record END`,
  ),
  update("flows", "context", renamed("context", SPEC_FIELDS.slice(0, 1))),
  "UPDATE flows SET kind = 'finalize' WHERE kind = 'settle';",
  JOINED_STEPS,
  ...STEPS.map(({ from, to }) => `UPDATE flow_steps SET step = '${to}' WHERE step = '${from}';`),
].join("\n");
