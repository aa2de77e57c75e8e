/**
 * Reads the requests that Firecracker takes, a table of names and types in `firecracker-names.txt`: one line for each
 * operation ("PUT /vsock Vsock!", where ! says that the body is required), and one for each body:
 *
 *     Vsock: guest_cid! integer:3.., uds_path! string      fields; ! says that a field is required
 *     CpuTemplate = C3|T2|None                             a body that is no object
 *
 *     string, integer, boolean    integer:1..32 with bounds    A|B one of these words
 *     @Name another body          [T] a list                   {T} an object with any keys
 */
export type Schema = {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
};
export type Parameter = { readonly in: string; readonly required?: boolean; readonly schema?: Schema };
export type Operation = { readonly parameters?: readonly Parameter[] };
/** The part of Swagger 2.0 that is looked at. */
export type Description = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly definitions: Readonly<Record<string, Schema>>;
};

const REF = "#/definitions/";

export function bodyOf({ parameters }: Operation): Parameter | undefined {
  return parameters?.find((one) => one.in === "body");
}

/** The lines of the table. Definitions that are in answers alone are left out. Pure. */
export function formatTable({ paths, definitions }: Description): string[] {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const body = bodyOf(operation);
      const name = body?.schema?.$ref?.replace(REF, "");
      const shown = name === undefined ? "" : ` ${name}${body?.required === true ? "!" : ""}`;
      return `${method.toUpperCase()} ${path}${shown}`;
    }),
  );
  const asked = Object.values(paths).flatMap((methods) => Object.values(methods).map(bodyOf));
  const needed = new Set<string>();
  for (const body of asked) if (body?.schema !== undefined) collectNames(body.schema, definitions, needed);
  const bodies = [...needed].toSorted().map((name) => formatDefinition(name, definitions[name] ?? {}));
  return [...operations.toSorted(), ...bodies];
}

function collectNames(schema: Schema, definitions: Description["definitions"], names: Set<string>): void {
  const name = schema.$ref?.replace(REF, "");
  if (name !== undefined) {
    if (names.has(name)) return;
    names.add(name);
    return collectNames(definitions[name] ?? {}, definitions, names);
  }
  for (const inner of Object.values(schema.properties ?? {})) collectNames(inner, definitions, names);
  if (schema.items !== undefined) collectNames(schema.items, definitions, names);
}

function formatDefinition(name: string, schema: Schema): string {
  if (schema.properties === undefined) return `${name} = ${formatType(schema)}`;
  const fields = Object.entries(schema.properties).map(([field, type]) => {
    const mark = schema.required?.includes(field) === true ? "!" : "";
    return `${field}${mark} ${formatType(type)}`;
  });
  return `${name}: ${fields.join(", ")}`;
}

function formatType(schema: Schema): string {
  const { additionalProperties: rest, minimum, maximum, items } = schema;
  if (schema.$ref !== undefined) return `@${schema.$ref.replace(REF, "")}`;
  if (schema.enum !== undefined) return schema.enum.join("|");
  if (items !== undefined) return `[${formatType(items)}]`;
  if (rest !== undefined) return `{${typeof rest === "object" ? formatType(rest) : "any"}}`;
  if (minimum === undefined && maximum === undefined) return schema.type ?? "object";
  return `${schema.type}:${minimum ?? ""}..${maximum ?? ""}`;
}

/** Parses what `formatTable` has written; lines that begin with # say nothing. @throws Error for any other line */
export function parseTable(text: string): Description {
  const paths: Record<string, Record<string, Operation>> = {};
  const definitions: Record<string, Schema> = {};
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [, method, path = "", body = "", mark] = /^([A-Z]+) (\S+)(?: (\w+)(!?))?$/.exec(line) ?? [];
    const [, object, fields] = /^(\w+): (.+)$/.exec(line) ?? [];
    const [, other, type] = /^(\w+) = (.+)$/.exec(line) ?? [];
    if (method !== undefined) (paths[path] ??= {})[method.toLowerCase()] = parseOperation(body, mark === "!");
    else if (object !== undefined && fields !== undefined) definitions[object] = parseFields(fields);
    else if (other !== undefined && type !== undefined) definitions[other] = parseType(type);
    else throw new Error(`This is no line of the table: ${line}`);
  }
  return { paths, definitions };
}

function parseOperation(body: string, required: boolean): Operation {
  return body === "" ? {} : { parameters: [{ in: "body", required, schema: { $ref: `${REF}${body}` } }] };
}

function parseFields(text: string): Schema {
  const fields = text.split(", ").map((field) => {
    const [name = "", type = ""] = field.split(" ");
    return { name: name.replace("!", ""), isRequired: name.endsWith("!"), type: parseType(type) };
  });
  return {
    type: "object",
    required: fields.filter(({ isRequired }) => isRequired).map(({ name }) => name),
    properties: Object.fromEntries(fields.map(({ name, type }) => [name, type])),
  };
}

function parseType(text: string): Schema {
  const [, type = text, minimum = "", maximum = ""] = /^(\w+):(\d*)\.\.(\d*)$/.exec(text) ?? [];
  if (text.startsWith("@")) return { $ref: `${REF}${text.slice(1)}` };
  if (text.startsWith("[")) return { type: "array", items: parseType(text.slice(1, -1)) };
  if (text.startsWith("{")) {
    const inner = text.slice(1, -1);
    return { type: "object", additionalProperties: inner === "any" ? true : parseType(inner) };
  }
  if (text.includes("|")) return { type: "string", enum: text.split("|") };
  return {
    type,
    ...(minimum !== "" && { minimum: Number(minimum) }),
    ...(maximum !== "" && { maximum: Number(maximum) }),
  };
}
