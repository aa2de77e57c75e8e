/** Help texts, made from the commands' declarations. */
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { longFlag } from "#cli/command.ts";
import type { Command, Flag } from "#cli/command.ts";
import { COMMANDS } from "#cli/command-table.ts";
import { NOUNS, withPresentNoun } from "#cli/find-command.ts";
import { shownFlags } from "#cli/parse.ts";
import { wrapText } from "#cli/wrap-text.ts";

const WIDTH = 80;
/** The width of the commands' names in lists, with a gap. */
const NAME_COLUMN = Math.max(...Object.keys(COMMANDS).map(({ length }) => length)) + 1;

/** Returns the list of all commands, by group. */
export function overview(): string {
  const lines = [
    "Hearth runs microVMs: virtual machines that start like containers.",
    "",
    "Usage: hearth COMMAND [FLAGS] [ARGUMENTS]",
    "",
    "  hearth run debian -- uname -a      Run a command in a new VM",
    "  hearth run --rm -it debian         Open a shell in a temporary VM",
  ];
  for (const group of new Set(Object.values(COMMANDS).map((row) => row.group))) {
    lines.push("", `${group}:`);
    for (const [name, row] of Object.entries(COMMANDS)) {
      if (row.group === group) lines.push(`  ${name.padEnd(NAME_COLUMN)}${row.summary}`);
    }
  }
  lines.push("", "`hearth help COMMAND` shows the help of a command. Most take --json and --quiet.");
  return `${lines.join("\n")}\n`;
}

/** Returns the help of one command: usage, arguments, flags, examples. */
export function commandHelp(command: Command): string {
  const shownArgs = command.args.some(({ help }) => help !== undefined) ? command.args : [];
  const args = shownArgs.map(({ name, help = "" }) => [name, help] as const);
  const flags = [
    ...Object.entries(shownFlags(command)).map(
      ([name, flag]) => [flagTerm(name, flag), flagHelp(flag)] as const,
    ),
    ["-h, --help", "Show this help"] as const,
  ];
  const column = Math.max(...[...args, ...flags].map(([term]) => term.length)) + 2 * GAP;
  const examples = command.examples.map(([line, does]) => `  ${line}\n      ${does}`);
  const parts = [
    `Usage: hearth ${[...command.path, "[FLAGS]", ...usage(command)].join(" ")}`,
    paragraphs(command),
    ...(args.length > 0 ? [`Arguments:\n${describe(args, column)}`] : []),
    `Flags:\n${describe(flags, column)}`,
    `Examples:\n${examples.join("\n")}`,
  ];
  return `${parts.join("\n\n")}\n`;
}

const GAP = 2;

function flagTerm(name: string, { short, value }: Flag): string {
  const letter = short === undefined ? "" : `-${short}, `;
  return `${letter}${longFlag(name)}${value === undefined ? "" : ` <${value}>`}`;
}

/** Returns the help of a flag with its choices, its default, and whether it can be repeated, also for docs/cli.md. */
export function flagHelp({ help, choices, default: value, many }: Flag): string {
  const facts = [
    ...(choices === undefined ? [] : [`choices: ${choices.join(", ")}`]),
    ...(value === undefined ? [] : [`default: ${value}`]),
  ];
  const text = facts.length === 0 ? help : `${help} (${facts.join("; ")})`;
  return many ? `${text}; can be repeated` : text;
}

/** Formats terms and descriptions in two columns, of which the second begins at `column`. */
function describe(items: readonly (readonly [term: string, help: string])[], column: number): string {
  const spaces = " ".repeat(GAP);
  return items
    .map(([term, help]) =>
      wrapText(`${`${spaces}${term}`.padEnd(column)}${help}`.trimEnd(), column, WIDTH).join("\n"),
    )
    .join("\n");
}

function usage(command: Command): string[] {
  if (command.passThrough) return passThroughUsage(command);
  return command.args.map(({ name, optional, many }) => {
    const word = many ? `${name}...` : name;
    return optional ? `[${word}]` : `<${word}>`;
  });
}

function passThroughUsage({ args: [first, second] }: Command): string[] {
  const rest =
    second === undefined ? [] : ["[--]", second.optional ? `[${second.name}...]` : `${second.name}...`];
  return [first?.name ?? "", ...rest];
}

function paragraphs(command: Command): string {
  const { summary, about } = command;
  const text = about === undefined ? [`${summary}.`] : [`${summary}.`, about];
  return text.map((paragraph) => wrapText(paragraph, 0, WIDTH).join("\n")).join("\n\n");
}

/** Returns the help of a noun such as `image`: its commands. */
export function nounHelp(noun: string): string {
  const rows = Object.entries(COMMANDS).filter(([name]) => name.startsWith(`${noun} `));
  const lines = rows.map(([name, row]) => `  ${name.padEnd(NAME_COLUMN)}${row.summary}`);
  return `Usage: hearth ${noun} COMMAND\n\nCommands:\n${lines.join("\n")}\n`;
}

/** Returns the error for words that are not a command. */
export function unknownCommand(words: readonly string[]): HearthError {
  const [first = "", second] = withPresentNoun(words);
  if ((NOUNS as readonly string[]).includes(first)) {
    const verbs = Object.keys(COMMANDS).flatMap((name) =>
      name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [],
    );
    if (second === undefined || second.startsWith("-")) {
      const hint = `Choose one: ${verbs.map((verb) => `hearth ${first} ${verb}`).join(", ")}.`;
      return new HearthError("input.invalid", `${first}: a command is missing.`, { hint });
    }
    const near = nearest(second, verbs);
    const hint =
      near === undefined ? `Choose one of ${verbs.join(", ")}.` : `Did you mean \`hearth ${first} ${near}\`?`;
    return new HearthError("input.invalid", `"${first} ${second}" is not a command.`, { hint });
  }
  const names = Object.entries(COMMANDS).flatMap(([name, { aliases = [] }]) => [name].concat(aliases));
  const near = nearest(first, [...names, ...NOUNS]);
  const hint = near === undefined ? "`hearth help` lists the commands." : `Did you mean \`hearth ${near}\`?`;
  return new HearthError("input.invalid", `"${first}" is not a command.`, { hint });
}
