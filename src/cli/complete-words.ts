import { POLICY_PRESETS } from "#model/policy-presets.ts";
import { longFlag } from "#cli/command.ts";
import type { Command, Completes, Context, Flag } from "#cli/command.ts";
import { COMMANDS } from "#cli/command-table.ts";
import { findCommand, NOUNS, withPresentNoun } from "#cli/find-command.ts";
import { shownFlags } from "#cli/parse.ts";

/** Tells the shell to complete files. */
const PATHS = ":path";

/** Returns the candidates for the last of `words`, which may be empty. */
export async function completionsFor(
  words: readonly string[],
  hearth: Context["hearth"],
): Promise<readonly string[]> {
  const last = words.at(-1) ?? "";
  const before = words.slice(0, -1);
  const found = findCommand(before);
  const all =
    found === undefined
      ? commandWords(before)
      : await forCommand((await found.load()).default, found.rest, last, hearth);
  return [...new Set(all)].filter((word) => word === PATHS || word.startsWith(last));
}

function commandWords(before: readonly string[]): readonly string[] {
  const commands = Object.keys(COMMANDS);
  if (before.length === 0) return [...commands.filter((name) => !name.includes(" ")), ...NOUNS];
  const prefix = `${withPresentNoun(before).join(" ")} `;
  return commands.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
}

async function forCommand(
  command: Command,
  rest: readonly string[],
  last: string,
  hearth: Context["hearth"],
): Promise<readonly string[]> {
  const flags = shownFlags(command);
  const previous = rest.at(-1) ?? "";
  const wanting = Object.entries(flags).find(
    ([name, flag]) => flag.value !== undefined && spellings(name, flag).includes(previous),
  );
  if (wanting !== undefined) return values(wanting[1].completes, hearth, wanting[1].choices);
  const operands = operandCount(rest, flags);
  if (command.passThrough && operands > 0) return [PATHS];
  if (last.startsWith("-")) return Object.entries(flags).flatMap(([name, flag]) => spellings(name, flag));
  const argument = command.args[Math.min(operands, command.args.length - 1)];
  if (argument === undefined || (operands >= command.args.length && !command.args.some(({ many }) => many)))
    return [];
  const found = await values(argument.completes, hearth, undefined);
  // `cp` takes both: names of VMs get their colon.
  return command.path[0] === "cp"
    ? [...found, ...(await values("vm", hearth, undefined)).map((name) => `${name}:`)]
    : found;
}

function spellings(name: string, flag: Flag): readonly string[] {
  return flag.short === undefined ? [longFlag(name)] : [longFlag(name), `-${flag.short}`];
}

function operandCount(rest: readonly string[], flags: Readonly<Record<string, Flag>>): number {
  let count = 0;
  for (let at = 0; at < rest.length; at++) {
    const word = rest[at] ?? "";
    if (!word.startsWith("-")) count++;
    else if (
      Object.entries(flags).some(
        ([name, flag]) => flag.value !== undefined && spellings(name, flag).includes(word),
      )
    )
      at++;
  }
  return count;
}

async function values(
  completes: Completes | undefined,
  hearth: Context["hearth"],
  choices: readonly string[] | undefined,
): Promise<readonly string[]> {
  if (choices !== undefined) return choices;
  if (completes === "path") return [PATHS];
  // The names of config.toml are not known here.
  if (completes === "policy") return [...Object.keys(POLICY_PRESETS), PATHS];
  if (completes === "command") return commandWords([]);
  if (completes === undefined) return [];
  try {
    // Pressing a key must not start hearthd.
    const client = await hearth({ autostart: false });
    if (completes === "vm") return (await client.vms.list()).map(({ name }) => name);
    if (completes === "volume") return (await client.volumes.list()).map(({ name }) => name);
    if (completes === "snapshot") return (await client.snapshots.list()).map(({ name, id }) => name ?? id);
    if (completes === "operation") return (await client.operations.list()).map(({ id }) => id);
    if (completes === "template") return (await client.templates.list()).map(({ id }) => id);
    return (await client.images.list()).map(({ ref }) => ref);
  } catch {
    return completes === "image" ? ["debian"] : []; // hearthd does not run: no names to offer.
  }
}
