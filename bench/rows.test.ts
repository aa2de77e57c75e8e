import assert from "node:assert/strict";
import { test } from "node:test";
import { execThrough, zeros } from "./transfer.ts";
import type { AgentClient } from "#guest/agent-client.ts";
import { describeMachine } from "./machine.ts";
import { chooseRows, ROWS } from "./rows.ts";

test("rows are chosen by name and keep the table's order", () => {
  const names = (chosen: readonly string[]): string[] => chooseRows(chosen).map(({ name }) => name);
  assert.deepEqual(names(["version", "run"]), ["run", "version"]);
  assert.deepEqual(
    names([]),
    ROWS.map(({ name }) => name),
  );
  assert.throws(() => chooseRows(["speed"]), /"speed" is not measured; there are run, exec/);
});

test("the machine is described", () => {
  const { cores, node, cpu } = describeMachine();
  assert.ok(cores > 0);
  assert.equal(node, process.version);
  assert.notEqual(cpu, "");
});

test("the raw stream counts what comes out and carries all that goes in", async () => {
  const agent = {
    async *exec(_spec: unknown, io: { stdin: AsyncIterable<Uint8Array> }) {
      for await (const bytes of io.stdin) yield { type: "stdout", bytes };
      yield { type: "exited", code: 0, timedOut: false };
    },
  } as unknown as AgentClient;
  assert.equal(await execThrough(agent, ["cat"], zeros(200_001)), 200_001);
});
