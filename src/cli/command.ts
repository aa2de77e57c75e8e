/**
 * A command is one file and one value (design §1). The value makes the parser, the help, the completion and the
 * reference in docs/cli.md; nothing about a command is written twice.
 */
import type { Hearth } from "#sdk/hearth.ts";
import type { Io } from "#cli/io.ts";
import type { Out } from "#cli/output.ts";

export type Flag = {
  /** One letter. */
  readonly short?: string;
  /** What the value is called in the help; a flag without it takes none. */
  readonly value?: string;
  /** May be given several times. */
  readonly many?: true;
  readonly help: string;
  /** The value without the flag, as the help shows it. */
  readonly default?: string;
  readonly choices?: readonly string[];
  readonly completes?: Completes;
};

export type Flags = Readonly<Record<string, Flag>>;

/** What the shell offers for an argument. */
export type Completes =
  "vm" | "image" | "volume" | "snapshot" | "template" | "operation" | "path" | "command";

export type Argument = {
  /** As in the help, such as `VM`. */
  readonly name: string;
  readonly optional?: true;
  readonly many?: true;
  readonly help?: string;
  readonly completes?: Completes;
};

export type FlagValues<F extends Flags> = {
  readonly [Name in keyof F]: F[Name] extends { many: true }
    ? readonly string[]
    : F[Name] extends { value: string }
      ? string | undefined
      : boolean;
};

export type Context<F extends Flags = Flags> = {
  readonly args: readonly string[];
  readonly flags: FlagValues<F>;
  readonly io: Io;
  readonly out: Out;
  /** Connects at the first call, and starts hearthd where it does not run. */
  hearth(options?: { readonly autostart?: boolean }): Promise<Hearth>;
};

export type Command<F extends Flags = Flags> = {
  /** The words that call it, such as `["image", "ls"]`. */
  readonly path: readonly string[];
  /** One line, an imperative, without a full stop. */
  readonly summary: string;
  /** What the summary cannot say, for the help. */
  readonly about?: string;
  readonly args: readonly Argument[];
  readonly flags: F;
  /** Everything after the first argument belongs to a command in the guest, flags included. */
  readonly passThrough?: true;
  /** All arguments are taken as they are: none is a flag, and no `--` is punctuation. */
  readonly verbatim?: true;
  /** A failure of Hearth's own exits with 125, because lower codes are the guest command's. */
  readonly exitsLikeGuest?: true;
  /** Command lines with what they do. */
  readonly examples: readonly (readonly [line: string, does: string])[];
  /** The exit code; 0 when nothing is returned. */
  run(context: Context<F>): Promise<number | void>;
};

/** Types the flags from their declaration. */
export function command<const F extends Flags>(value: Command<F>): Command {
  // The parser fills exactly the flags that are declared, so the wider type holds.
  return value as unknown as Command;
}

/** On every command, unless it declares its own of that name. */
export const COMMON_FLAGS = {
  json: { help: "Print JSON for programs" },
  quiet: { help: "Do not print progress and notes" },
} as const satisfies Flags;

/** `bootArgs` is `--boot-args`. */
export function longFlag(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
