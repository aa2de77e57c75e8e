/**
 * Compares every request of the client with what Firecracker accepts: the names and types in
 * src/testing/firecracker-names.txt, which were taken from Firecracker's own description of its API. Where
 * HEARTH_FIRECRACKER_API names such a description (Firecracker's src/firecracker/swagger/firecracker.yaml), the table
 * is compared with that.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parse } from "yaml";
import { FIRECRACKER_1_12_CALLS, FIRECRACKER_CALLS } from "#testing/firecracker-calls.ts";
import { bodyOf, formatTable, parseTable } from "#testing/firecracker-description.ts";
import type { Description, Operation, Schema } from "#testing/firecracker-description.ts";

const TABLE = join(import.meta.dirname, "../../../testing/firecracker-names.txt");
const wholePath = process.env["HEARTH_FIRECRACKER_API"];
const description = parseTable(readFileSync(TABLE, "utf8"));
const calls = [...FIRECRACKER_CALLS, ...FIRECRACKER_1_12_CALLS];
/** Requests that are described with the schema of a PUT, although Firecracker accepts a subset of the fields. */
const SUBSETS = new Set(["PATCH /machine-config"]);
/** Bodies with keys of the user's. */
const FREE = new Set(["MmdsContentsObject"]);

function resolve(schema: Schema): Schema {
  if (schema.$ref === undefined) return schema;
  const found = description.definitions[schema.$ref.replace("#/definitions/", "")];
  assert.ok(found, schema.$ref);
  return found;
}

/** Returns all that is wrong with `value`, as sentences. */
function faults(at: string, value: unknown, given: Schema): string[] {
  const schema = resolve(given);
  const type = schema.type ?? "object";
  const found: string[] = [];
  if (!hasType(type, value)) return [`${at} is not of type ${type}: ${JSON.stringify(value)}`];
  if (schema.enum && !schema.enum.includes(value)) found.push(`${at} is not in the enum: ${String(value)}`);
  if (typeof value === "number") {
    if (value < (schema.minimum ?? -Infinity)) found.push(`${at} is below ${schema.minimum}`);
    if (value > (schema.maximum ?? Infinity)) found.push(`${at} is above ${schema.maximum}`);
  }
  if (Array.isArray(value))
    return [...found, ...value.flatMap((one, i) => faults(`${at}[${i}]`, one, schema.items ?? {}))];
  if (type === "object") found.push(...fieldFaults(at, value as Record<string, unknown>, schema));
  return found;
}

function fieldFaults(at: string, value: Readonly<Record<string, unknown>>, schema: Schema): string[] {
  const missing = (schema.required ?? []).filter((field) => !(field in value));
  const rest = schema.additionalProperties ?? false;
  return [
    ...missing.map((field) => `${at}.${field} is missing`),
    ...Object.entries(value).flatMap(([field, inner]) => {
      const known = schema.properties?.[field];
      if (known !== undefined) return faults(`${at}.${field}`, inner, known);
      if (typeof rest === "object") return faults(`${at}.${field}`, inner, rest);
      return rest ? [] : [`${at}.${field} is unknown`];
    }),
  ];
}

function hasType(type: string, value: unknown): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "array") return Array.isArray(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  return typeof value === type;
}

/** Finds the operation of a request: "PUT /drives/rootfs" belongs to "PUT /drives/{drive_id}". */
function operationOf(request: string): { name: string; operation: Operation } | undefined {
  const [method = "", asked = ""] = request.split(" ");
  for (const [template, operations] of Object.entries(description.paths)) {
    const pattern = new RegExp(`^${template.replaceAll(/\{\w+\}/g, "[A-Za-z0-9_]+")}$`);
    const operation = operations[method.toLowerCase()];
    if (pattern.test(asked) && operation !== undefined) return { name: `${method} ${template}`, operation };
  }
  return undefined;
}

function bodyFaults(request: string, body: unknown): string[] {
  const found = operationOf(request);
  if (found === undefined) return [`${request} is not described`];
  const parameter = bodyOf(found.operation);
  if (body === undefined) return parameter?.required === true ? [`${request} wants a body`] : [];
  if (parameter?.schema === undefined) return [`${request} takes no body`];
  const schema = resolve(parameter.schema);
  return faults(request, body, SUBSETS.has(found.name) ? { ...schema, required: [] } : schema);
}

test(
  "the table equals the description that HEARTH_FIRECRACKER_API names",
  {
    skip:
      wholePath === undefined && "HEARTH_FIRECRACKER_API names no description; the table is used as it is",
  },
  () => {
    assert.ok(wholePath !== undefined);
    const whole = parse(readFileSync(wholePath, "utf8")) as Description;
    assert.deepEqual(formatTable(description), formatTable(whole), `${TABLE} is to be written anew`);
  },
);

describe("Firecracker's description of its API", () => {
  test("finds what is wrong with a body, so that the next tests can fail", () => {
    assert.deepEqual(bodyFaults("PUT /vsock", { guest_cid: 3, uds_path: "v" }), []);
    assert.deepEqual(bodyFaults("PUT /vsock", { guest_cid: 2, udsPath: "v" }), [
      "PUT /vsock.uds_path is missing",
      "PUT /vsock.guest_cid is below 3",
      "PUT /vsock.udsPath is unknown",
    ]);
    const drive = { drive_id: "a", is_root_device: "no", io_engine: "Fast", rate_limiter: { ops: {} } };
    assert.deepEqual(bodyFaults("PUT /drives/a", drive), [
      'PUT /drives/a.is_root_device is not of type boolean: "no"',
      "PUT /drives/a.io_engine is not in the enum: Fast",
      "PUT /drives/a.rate_limiter.ops.refill_time is missing",
      "PUT /drives/a.rate_limiter.ops.size is missing",
    ]);
    const metrics = { metrics_path: "m", properties: { a: 1 } };
    assert.equal(
      bodyFaults("PUT /metrics", metrics)[0],
      "PUT /metrics.properties.a is not of type string: 1",
    );
    assert.deepEqual(bodyFaults("PUT /vm", {}), ["PUT /vm is not described"]);
    assert.deepEqual(bodyFaults("PUT /vsock", undefined), ["PUT /vsock wants a body"]);
  });

  test("allows every request that the client makes", () => {
    assert.deepEqual(
      calls.flatMap(({ request, body }) => bodyFaults(request, body)),
      [],
    );
  });

  test("has no operation that the client lacks", () => {
    const described = Object.entries(description.paths).flatMap(([template, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${template}`),
    );
    assert.ok(described.length > 30);
    const asked = new Set(calls.map(({ request }) => operationOf(request)?.name));
    assert.deepEqual(
      described.filter((name) => !asked.has(name)),
      [],
    );
  });

  test("has no field of a request that the client cannot send", () => {
    const sent = new Set<string>();
    for (const { request, body } of calls) {
      const schema = bodyOf(operationOf(request)?.operation ?? {})?.schema;
      if (schema !== undefined && body !== undefined) collectSent(schema, body, sent);
    }
    const names = new Set([...sent].map((field) => field.split(".")[0]));
    const described = [...names].flatMap((name = "") =>
      Object.keys(description.definitions[name]?.properties ?? {}).map((field) => `${name}.${field}`),
    );
    assert.ok(described.length > 80, `${described.length}`);
    assert.deepEqual(
      described.filter((field) => !sent.has(field)),
      [],
    );
  });
});

/** Collects definition and field of everything in a body, such as "Drive.drive_id". */
function collectSent(given: Schema, value: unknown, sent: Set<string>): void {
  const name = given.$ref?.replace("#/definitions/", "");
  const schema = resolve(given);
  if (name !== undefined && FREE.has(name)) return;
  if (Array.isArray(value)) for (const one of value) collectSent(schema.items ?? {}, one, sent);
  else if (typeof value === "object" && value !== null) {
    for (const [field, inner] of Object.entries(value)) {
      if (name !== undefined) sent.add(`${name}.${field}`);
      const known = schema.properties?.[field];
      if (known !== undefined) collectSent(known, inner, sent);
    }
  }
}
