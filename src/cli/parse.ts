/** From a command's declaration to a parser, and from words to what `run` gets. commander does the work. */
import { createRequire } from "node:module";
import type { Command as Parser, CommanderError, Option } from "commander";
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { COMMON_FLAGS, longFlag } from "#cli/command.ts";
import type { Command, Flag, Flags } from "#cli/command.ts";

export type Parsed = {
  readonly args: readonly string[];
  readonly flags: Readonly<Record<string, boolean | string | readonly string[] | undefined>>;
  /** Somebody asked for the help of the command instead. */
  readonly help: boolean;
};

export function allFlags(command: Command): Flags {
  return { ...command.flags, ...without(COMMON_FLAGS, command.flags) };
}

/** @throws HearthError `input.invalid` with the nearest flag. */
export function parseWords(command: Command, words: readonly string[]): Parsed {
  const flags = allFlags(command);
  if (command.verbatim === true) return { args: words, flags: defaults(flags), help: false };
  // Without a flag there is nothing to parse, and commander takes 10 ms to load: as long as all the rest of an exec.
  if (isPlain(command, words)) {
    return { args: operands(command, words), flags: defaults(flags), help: false };
  }
  if (words.length === 1 && (words[0] === "--help" || words[0] === "-h")) {
    return { args: [], flags: defaults(flags), help: true };
  }
  const parser = parserFor(command);
  try {
    parser.parse(words, { from: "user" });
  } catch (error) {
    if ((error as CommanderError).code === "commander.helpDisplayed") {
      return { args: [], flags: defaults(flags), help: true };
    }
    throw usageError(command, error as CommanderError, words);
  }
  const given = parser.opts<Record<string, string | boolean | string[]>>();
  return { args: operands(command, parser.args), flags: { ...defaults(flags), ...given }, help: false };
}

/** Words that are all operands, as many as the command takes. */
function isPlain(command: Command, words: readonly string[]): boolean {
  const least = command.args.filter(({ optional }) => !optional).length;
  const own = command.passThrough ? words.slice(0, 1) : words;
  if (words.length < least || own.some((word) => word.startsWith("-"))) return false;
  return words.length <= command.args.length || command.args.at(-1)?.many === true;
}

export function parserFor(command: Command): Parser {
  const { Command: Commander } = createRequire(import.meta.url)("commander") as typeof import("commander");
  const parser = new Commander(["hearth", ...command.path].join(" "));
  parser.exitOverride().showSuggestionAfterError(false);
  parser.configureOutput({ writeOut: () => undefined, writeErr: () => undefined });
  parser.helpOption("-h, --help", "Explain this command");
  for (const { name, optional, many, help } of command.args) {
    const dots = many ? "..." : "";
    parser.argument(optional ? `[${name}${dots}]` : `<${name}${dots}>`, help ?? "");
  }
  for (const [name, flag] of Object.entries(allFlags(command)))
    parser.addOption(optionFor(parser, name, flag));
  if (command.passThrough) parser.passThroughOptions();
  return parser;
}

function optionFor(parser: Parser, name: string, flag: Flag): Option {
  const short = flag.short === undefined ? "" : `-${flag.short}, `;
  const value = flag.value === undefined ? "" : ` <${flag.value}>`;
  const option = parser.createOption(`${short}${longFlag(name)}${value}`, flag.help);
  if (flag.many) {
    option.argParser((text: string, before: readonly string[] | undefined) => [...(before ?? []), text]);
  }
  if (flag.choices !== undefined) option.choices(flag.choices);
  // `--no-start` would be taken for the opposite of `--start`; here it is a flag like others.
  option.negate = false;
  option.attributeName = () => name;
  return option;
}

/** A `--` right after the VM or image is punctuation; every later one is the guest command's. */
function operands(command: Command, args: readonly string[]): readonly string[] {
  if (command.passThrough && args[1] === "--") return [args[0] ?? "", ...args.slice(2)];
  return args;
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

function usageError(command: Command, error: CommanderError, words: readonly string[]): HearthError {
  const name = command.path.join(" ");
  const message = error.message.replace(/^error: /, "").split("\n")[0] ?? "";
  const help = `\`hearth help ${name}\` explains the command.`;
  if (error.code === "commander.unknownOption") {
    const given = /'([^']*)'/.exec(message)?.[1] ?? "";
    const near = nearest(given.replace(/=.*/, ""), Object.keys(allFlags(command)).map(longFlag));
    const hint = near === undefined ? help : `Did you mean ${near}? ${help}`;
    return new HearthError("input.invalid", `${name}: ${given} is not a flag of this command.`, { hint });
  }
  if (error.code === "commander.missingArgument") {
    const missing = /'([^']*)'/.exec(message)?.[1] ?? "";
    const hint = `Write it like this: ${command.examples[0]?.[0] ?? `hearth help ${name}`}`;
    return new HearthError("input.invalid", `${name}: ${missing} is missing.`, { hint });
  }
  if (error.code === "commander.excessArguments") {
    const extra = words.filter((word) => !word.startsWith("-"))[command.args.length] ?? "";
    return new HearthError("input.invalid", `${name}: "${extra}" is one word too many.`, { hint: help });
  }
  return new HearthError("input.invalid", `${name}: ${message}.`, { hint: help });
}
