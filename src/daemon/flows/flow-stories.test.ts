import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Flow } from "#daemon/flows/flow.ts";
import type { FlowKind } from "#daemon/store/journal.ts";
import { effectsOf } from "#testing/crash-story.ts";
import { journalled } from "#testing/fake-host.ts";
import { FLOW_STORIES } from "#testing/flow-stories.ts";

/** Returns every flow that a file of this directory exports. */
async function allFlows(): Promise<readonly Flow<unknown>[]> {
  const flows: Flow<unknown>[] = [];
  for (const file of readdirSync(import.meta.dirname).filter((name) => name.endsWith("-flow.ts"))) {
    const exported = Object.values((await import(join(import.meta.dirname, file))) as object) as unknown[];
    flows.push(...exported.filter(isFlow));
  }
  return flows;
}

function isFlow(value: unknown): value is Flow<unknown> {
  return typeof value === "object" && value !== null && "steps" in value && "afterCrash" in value;
}

test("every flow has a story", async () => {
  const kinds = new Set((await allFlows()).map(({ kind }) => kind));
  const told = new Set(FLOW_STORIES.flatMap(({ flows }) => flows));
  assert.ok(kinds.has("start"), "the flows are found");
  assert.deepEqual([...told].toSorted(), [...kinds].toSorted());
});

for (const story of FLOW_STORIES) {
  test(`${story.what} goes through every step of ${story.flows.join(", ")}`, async () => {
    const flows = new Map<FlowKind, Flow<unknown>>((await allFlows()).map((flow) => [flow.kind, flow]));
    const effects = await effectsOf(story);
    const steps = story.flows.flatMap((kind) =>
      (flows.get(kind)?.steps ?? []).map(({ name }) => journalled(kind, name, "started")),
    );
    assert.deepEqual(
      steps.filter((step) => !effects.includes(step)),
      [],
    );
  });
}
