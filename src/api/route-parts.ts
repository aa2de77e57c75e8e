/** The parts that all routes share. */
import { z } from "@hono/zod-openapi";
import { errorSchema } from "#api/error-schema.ts";

/** A JSON body. */
export const json = <Schema extends z.ZodType>(schema: Schema) => ({ "application/json": { schema } });

/** The JSON body of a request. */
export const body = <Schema extends z.ZodType>(schema: Schema) => ({
  body: { content: json(schema), required: true },
});

/** The answer of every route that fails. */
export const fails = { default: { description: "The error", content: json(errorSchema) } };

/** The answers of a route that returns something. */
export const answers = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  200: { description, content: json(schema) },
  ...fails,
});

/** The answers of a route that creates something. */
export const made = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  201: { description, content: json(schema) },
  ...fails,
});

/** The answers of a route that returns nothing. */
export const done = { 204: { description: "Done" }, ...fails };

/** A parameter in the path of a route. */
export const pathText = (name: string, description: string, example: string) =>
  z.string().openapi({ param: { name, in: "path" }, description, example });

/** The VM in the path of a route. */
export const vmParam = z.object({
  vm: pathText("vm", "Name or ID of the VM", "web-1"),
});
