/** Help texts, all made from the commands' own declarations. */
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import type { Command } from "#cli/command.ts";
import { COMMANDS, NOUNS } from "#cli/command-table.ts";
import { parserFor } from "#cli/parse.ts";

const WIDTH = 80;
/** Of the commands' names in lists, with a gap. */
const NAME_COLUMN = Math.max(...Object.keys(COMMANDS).map(({ length }) => length)) + 1;

/** All commands, by group. */
export function overview(): string {
  const lines = [
    "Hearth runs microVMs: real virtual machines that start like containers.",
    "",
    "Usage: hearth COMMAND [FLAGS] [ARGUMENTS]",
    "",
    "  hearth run debian -- uname -a      boots a VM and runs the command in it",
    "  hearth run --rm -it debian         a shell in a VM that goes away with it",
  ];
  for (const group of new Set(Object.values(COMMANDS).map((row) => row.group))) {
    lines.push("", `${group}:`);
    for (const [name, row] of Object.entries(COMMANDS)) {
      if (row.group === group) lines.push(`  ${name.padEnd(NAME_COLUMN)}${row.summary}`);
    }
  }
  lines.push("", "`hearth help COMMAND` explains one. --json prints JSON, --quiet no progress.");
  return `${lines.join("\n")}\n`;
}

/** One command: usage, arguments, flags, examples. */
export function commandHelp(command: Command): string {
  const parser = parserFor(command);
  parser.description(paragraphs(command));
  parser.configureHelp({ helpWidth: WIDTH });
  if (command.passThrough) parser.usage(passThroughUsage(command));
  const examples = command.examples.map(([line, does]) => `  ${line}\n      ${does}`);
  return `${parser.helpInformation().trimEnd()}\n\nExamples:\n${examples.join("\n")}\n`;
}

function passThroughUsage(command: Command): string {
  const [first, second] = command.args;
  const rest =
    second === undefined ? "" : second.optional ? ` [--] [${second.name}...]` : ` [--] ${second.name}...`;
  return `[options] ${first?.name ?? ""}${rest}`;
}

function paragraphs(command: Command): string {
  const { summary, about } = command;
  return about === undefined ? `${summary}.` : `${summary}.\n\n${about}`;
}

/** Help for a noun such as `image`: its commands. */
export function nounHelp(noun: string): string {
  const rows = Object.entries(COMMANDS).filter(([name]) => name.startsWith(`${noun} `));
  const lines = rows.map(([name, row]) => `  ${name.padEnd(NAME_COLUMN)}${row.summary}`);
  return `Usage: hearth ${noun} COMMAND\n\nCommands:\n${lines.join("\n")}\n`;
}

/** @returns what to say about words that are no command. */
export function unknownCommand(words: readonly string[]): HearthError {
  const [first = "", second] = words;
  if ((NOUNS as readonly string[]).includes(first)) {
    const verbs = Object.keys(COMMANDS).flatMap((name) =>
      name.startsWith(`${first} `) ? [name.slice(first.length + 1)] : [],
    );
    if (second === undefined || second.startsWith("-")) {
      const hint = `Say what to do: ${verbs.map((verb) => `hearth ${first} ${verb}`).join(", ")}.`;
      return new HearthError("input.invalid", `${first}: a command is missing.`, { hint });
    }
    const near = nearest(second, verbs);
    const hint =
      near === undefined ? `There are ${verbs.join(", ")}.` : `Did you mean \`hearth ${first} ${near}\`?`;
    return new HearthError("input.invalid", `"${first} ${second}" is not a command.`, { hint });
  }
  const names = Object.entries(COMMANDS).flatMap(([name, { aliases = [] }]) => [name].concat(aliases));
  const near = nearest(first, [...names, ...NOUNS]);
  const hint = near === undefined ? "`hearth help` lists the commands." : `Did you mean \`hearth ${near}\`?`;
  return new HearthError("input.invalid", `"${first}" is not a command.`, { hint });
}
