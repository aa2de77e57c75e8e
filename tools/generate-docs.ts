/**
 * Writes docs/cli.md from the commands' own declarations: `node tools/generate-docs.ts`. A test says when it is
 * stale.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { longFlag } from "#cli/command.ts";
import type { Command, Flag } from "#cli/command.ts";
import { COMMANDS } from "#cli/command-table.ts";
import { NOUN_ALIASES } from "#cli/find-command.ts";
import { flagHelp } from "#cli/help.ts";
import { shownFlags } from "#cli/parse.ts";

export const CLI_DOC = join(import.meta.dirname, "../docs/cli.md");

const INTRODUCTION = `# Commands

Made by \`node tools/generate-docs.ts\` from the commands themselves; do not edit. \`hearth help COMMAND\` prints the same.

## What holds for all

- Results go to stdout, everything else to stderr: progress, notes, \`error:\`, \`hint:\` and the \`operation:\` that
  hearthd's log names.
- \`--json\` prints the API's objects on stdout, lists as arrays. An error is \`{ "error": { "code", "message", "hint", "operation" } }\`,
  on stdout as well, with the same exit code: a program reads one stream. Of several targets it is an array, in which
  one that failed is \`{ "name", "error" }\`.
- Progress is a line that changes on a terminal, a line for each stage elsewhere, and nothing with \`--quiet\`.
- Colours only on a terminal, and not with \`NO_COLOR\`. \`HEARTH_DEBUG=1\` prints where an error was thrown.
- Sizes have a unit (\`512M\`, \`8G\`, \`1.5GiB\`), a power of 1024; durations have ms, s, m, h or d (\`90s\`, \`2h30m\`). A
  bare number is refused.
- Names of VMs are DNS labels: 1 to 63 of a-z, 0-9 and -, with no - at an edge. A VM's id does as well as its name.

| exit code | means |
|---|---|
| 0 | it worked |
| 1 | it failed; of several targets, at least one |
| 2 | the command line or a setting is invalid; 125 with \`run\`, \`exec\`, \`shell\` |
| 124 | \`exec --timeout\`: its time was up |
| 125 | \`run\`, \`exec\`, \`shell\`: Hearth itself failed (lower codes are those of the guest's command) |
| 126, 127 | \`run\`, \`exec\`, \`shell\`: the command is not executable, was not found |
| 128+n | signal n ended the command; 129: detach keys or a closed terminal; 130: Ctrl-C |
| 141 | whoever read the output has gone, as in \`hearth logs web \\| head -1\` |
`;

export async function cliReference(): Promise<string> {
  const parts = [INTRODUCTION];
  let group = "";
  for (const [name, row] of Object.entries(COMMANDS)) {
    if (row.group !== group) parts.push(`## ${row.group}\n`);
    group = row.group;
    const { default: command } = await row.load();
    parts.push(section(name, command, row.aliases ?? []));
  }
  return parts.join("\n");
}

function section(name: string, command: Command, aliases: readonly string[]): string {
  const words = command.args.map(({ name: word, optional, many }) => {
    const text = many ? `${word}...` : word;
    return optional ? `[${text}]` : text;
  });
  const lines = [
    `### hearth ${name}`,
    "",
    `${command.summary}.`,
    "",
    "```",
    ["hearth", name, "[FLAGS]", ...words].join(" "),
    "```",
    "",
  ];
  if (command.about !== undefined) lines.push(command.about, "");
  const earlier = Object.entries(NOUN_ALIASES).flatMap(([alias, noun]) =>
    name.startsWith(`${noun} `) ? [name.replace(noun, alias)] : [],
  );
  const also = [...aliases, ...earlier].map((alias) => `\`hearth ${alias}\``);
  if (also.length > 0) lines.push(`Also: ${also.join(", ")}.`, "");
  lines.push("| flag | |", "|---|---|");
  for (const [flagName, flag] of Object.entries(shownFlags(command))) lines.push(flagRow(flagName, flag));
  lines.push("", "```sh");
  for (const [line, does] of command.examples) lines.push(`${line}   # ${does}`);
  lines.push("```", "");
  return lines.join("\n");
}

function flagRow(name: string, flag: Flag): string {
  const value = flag.value === undefined ? "" : ` ${flag.value}`;
  const short = flag.short === undefined ? "" : `-${flag.short}, `;
  return `| \`${short}${longFlag(name)}${value}\` | ${flagHelp(flag)} |`;
}

if (import.meta.main) writeFileSync(CLI_DOC, await cliReference());
