import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { MIGRATIONS } from "#daemon/store/migrations.ts";
import { USER_NETWORK } from "#daemon/store/user-network.ts";
import { checkPolicy } from "#model/network-policy.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import { policyOf } from "#model/policy-flags.ts";

const AT = MIGRATIONS.indexOf(USER_NETWORK);
const ALLOW_ALL = policyOf({ base: "allow-all", allow: [], deny: [], allowDomain: [] });

type Spec = { readonly network?: string; readonly policy?: NetworkPolicy };

/** Returns the specs of VMs and of snapshots after the migration. */
function migrate(specs: readonly string[]): { readonly vms: string[]; readonly snapshots: string[] } {
  const database = new DatabaseSync(":memory:");
  for (const sql of MIGRATIONS.slice(0, AT)) database.exec(sql);
  const vm = database.prepare(
    `INSERT INTO vms (id, owner, name, labels, spec, generation, image_digest, state, ephemeral, created_at_ms,
       updated_at_ms, last_used_at_ms) VALUES (?1, 'local', ?1, '{}', ?2, 1, '', '{}', 0, 1, 1, 1)`,
  );
  const snapshot = database.prepare(
    `INSERT INTO snapshots (id, owner, kind, shape, record, created_at_ms, last_used_at_ms)
     VALUES (?, 'local', 'named', 'key', ?, 1, 1)`,
  );
  for (const [index, spec] of specs.entries()) {
    vm.run(String(index), spec);
    snapshot.run(
      String(index),
      spec.startsWith("{") ? `{"spec":${spec},"shape":{"vm":{"network":"user"}}}` : spec,
    );
  }
  for (const sql of MIGRATIONS.slice(AT)) database.exec(sql);
  const read = (sql: string): string[] =>
    database
      .prepare(sql)
      .all()
      .map(({ text }) => String(text));
  const found = {
    vms: read("SELECT spec AS text FROM vms ORDER BY id"),
    snapshots: read("SELECT record AS text FROM snapshots ORDER BY id"),
  };
  database.close();
  return found;
}

test("VMs and snapshots with a user-mode network have nat, with a policy that allows every address", () => {
  const { vms, snapshots } = migrate([
    '{"network":"user","cpus":2}',
    '{"network":"user","isolation":{"jail":true}}',
  ]);
  for (const [index, vm] of vms.entries()) {
    const specs = [JSON.parse(vm), JSON.parse(snapshots[index] ?? "").spec] as Spec[];
    for (const { network, policy } of specs) {
      assert.equal(network, "nat");
      assert.ok(policy !== undefined);
      assert.deepEqual(checkPolicy(policy), ALLOW_ALL);
    }
  }
  assert.equal(JSON.parse(vms[0] ?? "").cpus, 2);
});

test("the memory of a snapshot is still said to be of a user-mode network", () => {
  const { snapshots } = migrate(['{"network":"user"}']);
  assert.equal(JSON.parse(snapshots[0] ?? "").shape.vm.network, "user");
});

test("a VM without a jail has no network afterwards", () => {
  const { vms } = migrate(['{"network":"user","isolation":{"jail":false}}']);
  assert.deepEqual(JSON.parse(vms[0] ?? ""), { network: "none", isolation: { jail: false } });
});

test("other networks, and rows that are damaged, stay as they are", () => {
  const specs = ['{"network":"nat"}', '{"network":"none"}', "{}", "user", ""];
  const { vms } = migrate(specs);
  assert.deepEqual(vms, specs);
});
