/** Reads config.toml: every key is optional, and everything that is wrong is reported at once. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CONFIG_FILE } from "#base/file-names.ts";
import { parse } from "smol-toml";
import { z } from "zod";
import { HearthError, toError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { CONFIG_SCHEMA } from "#daemon/config-schema.ts";
import type { IssueParams } from "#daemon/config-schema.ts";

export type Config = z.output<typeof CONFIG_SCHEMA>;

/** A kind of VM, and the number of them that wait. */
export type PoolConfig = Config["pools"][number];

type Problem = { readonly message: string; readonly hint?: string | undefined };

/**
 * Reads the file. @throws HearthError `config.invalid` with the file, and for each problem the key, the value and the
 * rule
 */
export function readConfig(configDir: string): Config {
  const path = join(configDir, CONFIG_FILE);
  let source: string;
  try {
    source = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return parseConfig(path, "");
    throw new HearthError("config.invalid", `Cannot read ${path}.`, {
      hint: "Check its owner and mode.",
      cause: error,
    });
  }
  return parseConfig(path, source);
}

/** Parses the text of the file; `path` is for errors. @throws HearthError `config.invalid` */
export function parseConfig(path: string, source: string): Config {
  let document: unknown;
  try {
    document = parse(source);
  } catch (error) {
    const message = toError(error).message.split("\n", 1)[0] ?? "";
    throw invalid(path, [{ message, hint: "Correct the TOML; docs/configuration.md lists the keys." }]);
  }
  const result = CONFIG_SCHEMA.safeParse(document, { reportInput: true });
  if (result.success) return result.data;
  throw invalid(path, result.error.issues.flatMap(problemsOf));
}

/** Lists the keys of config.toml, such as `defaults.cpus`; a name that a user chooses is `NAME`. */
export function configKeys(): string[] {
  return keysBelow("", jsonSchema());
}

function invalid(path: string, problems: readonly Problem[]): HearthError {
  const hints = new Set(problems.flatMap(({ hint }) => hint ?? []));
  return new HearthError("config.invalid", `${path}: ${problems.map(({ message }) => message).join("; ")}.`, {
    hint: [...hints].join(" "),
  });
}

function problemsOf(issue: z.core.$ZodIssue): Problem[] {
  const key = issue.path.join(".");
  if (issue.code === "invalid_key")
    return issue.issues.flatMap((inner) => problemsOf({ ...inner, path: issue.path }));
  if (issue.code === "unrecognized_keys") return issue.keys.map((unknown) => unknownKey(issue.path, unknown));
  if (issue.code === "invalid_type" && (issue.expected === "object" || issue.expected === "record"))
    return [{ message: `${key} must be a table`, hint: `Write [${key}].` }];
  if (issue.code === "invalid_type" && issue.input === undefined)
    return [{ message: `${key} is missing`, hint: 'For example: image = "debian"' }];
  const { hint, isWhole, hasPlace }: IssueParams = issue.code === "custom" ? (issue.params ?? {}) : {};
  if (isWhole === true) {
    // A rule between keys belongs to their table, and names them.
    const isTable = typeof issue.input === "object" && hasPlace !== true;
    return [{ message: `${key}${isTable ? "." : ": "}${issue.message}`, hint }];
  }
  const isText = issue.code === "invalid_type" && issue.expected === "string";
  const example = isText ? `Write ${String(issue.path.at(-1))} = "…".` : undefined;
  return [{ message: `${key}: ${JSON.stringify(issue.input)} ${issue.message}`, hint: hint ?? example }];
}

function unknownKey(table: readonly PropertyKey[], key: string): Problem {
  const known = knownKeys(table.map(String)).map((name) => [...table, name].join("."));
  const asked = [...table, key].join(".");
  const near = nearest(asked, known);
  const hint = near === undefined ? `Keys are ${known.join(", ")}.` : `Did you mean ${near}?`;
  return { message: `unknown key ${asked}`, hint };
}

type KeyTree = {
  readonly properties?: Readonly<Record<string, KeyTree>>;
  readonly additionalProperties?: KeyTree | boolean;
};

/** Returns the schema of the file as a tree of keys. Only errors and tests need it. */
function jsonSchema(): KeyTree {
  return z.toJSONSchema(CONFIG_SCHEMA, { io: "input", unrepresentable: "any" }) as KeyTree;
}

function knownKeys(table: readonly string[]): string[] {
  const below = (tree: KeyTree | undefined, name: string): KeyTree | undefined => {
    const any = tree?.additionalProperties;
    return tree?.properties?.[name] ?? (typeof any === "object" ? any : undefined);
  };
  return Object.keys(table.reduce<KeyTree | undefined>(below, jsonSchema())?.properties ?? {});
}

function keysBelow(prefix: string, { properties, additionalProperties }: KeyTree): string[] {
  const named = Object.entries(properties ?? {});
  const any = typeof additionalProperties === "object" ? [["NAME", additionalProperties] as const] : [];
  const below = [...named, ...any];
  if (below.length === 0) return [prefix];
  return below.flatMap(([name, tree]) => keysBelow(prefix === "" ? name : `${prefix}.${name}`, tree));
}
