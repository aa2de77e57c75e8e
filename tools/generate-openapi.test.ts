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

type Schema = {
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
};
type Content = { readonly content?: Readonly<Record<string, { readonly schema: Schema }>> };
type Route = {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly description?: string }[];
  readonly requestBody?: Content;
  readonly responses: Readonly<Record<string, Content>>;
};

/** Lists the properties of a schema, and of those in it, that have no description. */
function undescribed(path: string, schema: Schema): string[] {
  const found: string[] = [];
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const texts = [property, ...(property.allOf ?? [])].map(({ description = "" }) => description);
    if (texts.every((text) => text === "")) found.push(`${path}.${name}`);
    found.push(...undescribed(`${path}.${name}`, property));
  }
  for (const part of [schema.allOf, schema.anyOf, schema.items].flat())
    if (part !== undefined) found.push(...undescribed(path, part));
  return found;
}

function undescribedIn({ operationId, parameters = [], requestBody, responses }: Route): string[] {
  const schemas = [requestBody, ...Object.values(responses)].flatMap((one) =>
    Object.values(one?.content ?? {}).map(({ schema }) => schema),
  );
  return [
    ...parameters
      .filter(({ description = "" }) => description === "")
      .map(({ name }) => `${operationId}?${name}`),
    ...schemas.flatMap((schema) => undescribed(operationId, schema)),
  ];
}

test("every property and every parameter of the API has a description", async () => {
  const { components, paths } = JSON.parse(await openApiDocument()) as {
    components: { schemas: Record<string, Schema> };
    paths: Record<string, Record<string, Route>>;
  };
  const schemas = Object.entries(components.schemas);
  const routes = Object.values(paths).flatMap((path) => Object.values(path));
  assert.ok(schemas.length >= 20, `${schemas.length} schemas were found`);
  assert.deepEqual(
    [...schemas.flatMap(([name, schema]) => undescribed(name, schema)), ...routes.flatMap(undescribedIn)],
    [],
  );
});

test("a property without a description is found", () => {
  const schema = { properties: { a: { items: { properties: { b: {} } } }, c: { description: "C" } } };
  assert.deepEqual(undescribed("S", schema), ["S.a", "S.a.b"]);
});

test("a description belongs to a property, and not to the schema that it refers to", async () => {
  const { components } = JSON.parse(await openApiDocument()) as {
    components: { schemas: Record<string, Schema> };
  };
  const described = Object.entries(components.schemas).filter(
    ([, { description }]) => description !== undefined,
  );
  assert.deepEqual(described.map(([name]) => name).toSorted(), [
    "CreateVm",
    "NetworkPolicy",
    "RateLimit",
    "SetVm",
  ]);
});
