/** Parts that all routes share. */
import { z } from "@hono/zod-openapi";
import * as s from "#api/schemas.ts";

/** A body in JSON. */
export const json = <Schema extends z.ZodType>(schema: Schema) => ({ "application/json": { schema } });

/** Parameters and bodies of requests. */
export const body = <Schema extends z.ZodType>(schema: Schema) => ({
  body: { content: json(schema), required: true },
});

/** The answer of every route that fails. */
export const fails = { default: { description: "What went wrong", content: json(s.errorSchema) } };

/** The answers of a route that has one. */
export const answers = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  200: { description, content: json(schema) },
  ...fails,
});

/** The answers of a route that makes something. */
export const made = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  201: { description, content: json(schema) },
  ...fails,
});

/** The answers of a route that has none. */
export const done = { 204: { description: "Done" }, ...fails };
