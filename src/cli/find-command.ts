/** Finds the command that words name, also by an earlier or another name. */
import { COMMANDS } from "#cli/command-table.ts";
import type { Row } from "#cli/command-table.ts";

/** The command that the scripts of `completion` call. Users do not. */
const HIDDEN: Readonly<Record<string, Row["load"]>> = {
  __complete: () => import("#cli/commands/system/complete.ts"),
};

/** The nouns that stand before a verb. */
export const NOUNS = [
  "snapshot",
  "template",
  "network",
  "volume",
  "image",
  "kernel",
  "firecracker",
  "operation",
  "daemon",
  "system",
] as const;

/** Earlier names of nouns, which still work. */
export const NOUN_ALIASES: Readonly<Record<string, string>> = { warm: "template" };

export type Found = { readonly name: string; readonly load: Row["load"]; readonly rest: readonly string[] };

/** Replaces an earlier name of a noun at the start of `words`. */
export function withPresentNoun(words: readonly string[]): readonly string[] {
  const [first = "", ...rest] = words;
  return Object.hasOwn(NOUN_ALIASES, first) ? [NOUN_ALIASES[first] ?? first, ...rest] : words;
}

/** Finds the command that `given` begins with. A noun and its verb are two words. */
export function findCommand(given: readonly string[]): Found | undefined {
  const words = withPresentNoun(given);
  for (const count of [2, 1]) {
    const name = words.slice(0, count).join(" ");
    if (name === "" || words.length < count) continue;
    const rest = words.slice(count);
    const row = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (row !== undefined) return { name, load: row.load, rest };
    const hidden = Object.hasOwn(HIDDEN, name) ? HIDDEN[name] : undefined;
    if (hidden !== undefined) return { name, load: hidden, rest };
    for (const [real, { aliases = [], load }] of Object.entries(COMMANDS)) {
      if (aliases.includes(name)) return { name: real, load, rest };
    }
  }
  return undefined;
}
