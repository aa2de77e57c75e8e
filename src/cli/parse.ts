/** Parses the words of a command line by the command's declaration. node:util.parseArgs splits them. */
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { COMMON_FLAGS, longFlag } from "#cli/command.ts";
import type { Command, Flag, Flags } from "#cli/command.ts";

export type Parsed = {
  readonly args: readonly string[];
  readonly flags: Readonly<Record<string, boolean | string | readonly string[] | undefined>>;
  /** True if the help of the command was asked for. */
  readonly help: boolean;
};

/** See io.ts for the reason why this is not an import. */
const { parseArgs } = process.getBuiltinModule("node:util");

type Token = NonNullable<ReturnType<typeof parseArgs>["tokens"]>[number];
type OptionToken = Extract<Token, { kind: "option" }>;
type Value = boolean | string | readonly string[];

const HELP = { short: "h", type: "boolean" } as const;

export function allFlags(command: Command): Flags {
  return { ...command.flags, ...without(COMMON_FLAGS, command.flags) };
}

/** Returns the flags that the help and the completion show. */
export function shownFlags(command: Command): Flags {
  return Object.fromEntries(Object.entries(allFlags(command)).filter(([, { hidden }]) => hidden !== true));
}

/** Parses the words. @throws HearthError `input.invalid`, with the nearest flag as its hint. */
export function parseArguments(command: Command, words: readonly string[]): Parsed {
  const flags = allFlags(command);
  if (command.verbatim === true) return { args: words, flags: defaults(flags), help: false };
  const { own, rest } = split(command, flags, words);
  const given: Record<string, Value> = {};
  const args: string[] = [];
  for (const token of tokensOf(flags, own)) {
    if (token.kind === "positional") args.push(token.value);
    if (token.kind !== "option") continue;
    if (token.name === "help") return { args: [], flags: defaults(flags), help: true };
    const [name, flag] = flagOf(command, flags, token);
    const value = valueOf(command, flag, token);
    given[name] = flag.many
      ? [...((given[name] as readonly string[] | undefined) ?? []), String(value)]
      : value;
  }
  const all = operands(command, [...args, ...rest]);
  checkCount(command, all);
  return { args: all, flags: { ...defaults(flags), ...given }, help: false };
}

/** Splits off the words of a command in the guest: everything from the first operand on. */
function split(command: Command, flags: Flags, words: readonly string[]) {
  const first = command.passThrough
    ? tokensOf(flags, words).find(({ kind }) => kind === "positional")?.index
    : undefined;
  return { own: words.slice(0, first), rest: first === undefined ? [] : words.slice(first) };
}

/** Tokenizes without strict mode, because Hearth's errors name the nearest flag. */
function tokensOf(flags: Flags, words: readonly string[]): readonly Token[] {
  const options = Object.entries(flags).map(([name, { short, value }]) => {
    const type = value === undefined ? ("boolean" as const) : ("string" as const);
    return [longFlag(name).slice("--".length), { type, ...(short !== undefined && { short }) }] as const;
  });
  const all = { ...Object.fromEntries(options), help: HELP };
  return parseArgs({ args: [...words], options: all, strict: false, tokens: true }).tokens;
}

function flagOf(command: Command, flags: Flags, { name, rawName }: OptionToken): [string, Flag] {
  const known = Object.entries(flags).find(([flag]) => longFlag(flag) === `--${name}`);
  if (known !== undefined) return known;
  const near = nearest(rawName, Object.keys(flags).map(longFlag));
  const help = helpHint(command);
  throw usageError(
    command,
    `${rawName} is not a flag of this command`,
    near === undefined ? help : `Did you mean ${near}? ${help}`,
  );
}

function valueOf(command: Command, flag: Flag, { rawName, value }: OptionToken): boolean | string {
  if (flag.value === undefined) {
    if (value === undefined) return true;
    throw usageError(command, `${rawName} takes no value`, `Write ${rawName} alone.`);
  }
  if (value === undefined)
    throw usageError(command, `${rawName} needs a value`, `Write ${rawName} ${flag.value}.`);
  if (flag.choices === undefined || flag.choices.includes(value)) return value;
  const choices = flag.choices.join(", ");
  throw usageError(
    command,
    `${rawName}: ${JSON.stringify(value.slice(0, 80))} is not one of ${choices}`,
    `Choose one of ${choices}.`,
  );
}

/** Removes a `--` right after the VM or image. Every later one belongs to the guest's command. */
function operands(command: Command, args: readonly string[]): readonly string[] {
  if (command.passThrough && args[1] === "--") return [args[0] ?? "", ...args.slice(2)];
  return args;
}

function checkCount(command: Command, args: readonly string[]): void {
  const missing = command.args.filter(({ optional }) => !optional)[args.length];
  if (missing !== undefined) {
    const line = command.examples[0]?.[0] ?? `hearth help ${command.path.join(" ")}`;
    const hint = missing.missingHint?.(args) ?? `Write it like this: ${line}`;
    throw usageError(command, `${missing.name} is missing`, hint);
  }
  const extra = command.args.some(({ many }) => many) ? undefined : args[command.args.length];
  if (extra !== undefined) throw usageError(command, `unexpected argument "${extra}"`, helpHint(command));
}

function defaults(flags: Flags): Record<string, boolean | readonly string[] | undefined> {
  return Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, defaultOf(flag)]));
}

function defaultOf(flag: Flag): boolean | readonly string[] | undefined {
  if (flag.many) return [];
  return flag.value === undefined ? false : undefined;
}

function without<F extends Flags>(flags: F, own: Flags): Partial<F> {
  const rest = Object.entries(flags).filter(([name]) => !Object.hasOwn(own, name));
  return Object.fromEntries(rest) as Partial<F>;
}

function helpHint(command: Command): string {
  return `\`hearth help ${command.path.join(" ")}\` explains the command.`;
}

function usageError(command: Command, what: string, hint: string): HearthError {
  return new HearthError("input.invalid", `${command.path.join(" ")}: ${what}.`, { hint });
}
