import assert from "node:assert/strict";
import { test } from "node:test";
import { openApiDocument, staleFiles } from "./generate-openapi.ts";

test("docs/openapi.json and docs/errors.md are what the code says; else: node tools/generate-openapi.ts", async () => {
  assert.deepEqual(await staleFiles(), []);
});

test("every operation of the API has an id of its own, a summary and an error answer", async () => {
  const { paths } = JSON.parse(await openApiDocument()) as {
    paths: Record<string, Record<string, { operationId: string; summary: string; responses: object }>>;
  };
  const operations = Object.values(paths).flatMap((path) => Object.values(path));
  assert.ok(operations.length >= 20);
  assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length);
  for (const { operationId, summary, responses } of operations) {
    assert.ok(summary, `${operationId} has a summary`);
    assert.ok("default" in responses, `${operationId} says how it fails`);
  }
});
