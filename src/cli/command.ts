/**
 * A command is one file and one value. The parser, the help, the completion and docs/cli.md are made from the value, so
 * nothing about a command is written twice.
 */
import type { Hearth } from "#sdk/hearth.ts";
import type { Io } from "#cli/io.ts";
import type { Out } from "#cli/output.ts";

export type Flag = {
  /** A single letter. */
  readonly short?: string;
  /** The name of its value in the help. A flag without it takes no value. */
  readonly value?: string;
  /** The flag may be given several times. */
  readonly many?: true;
  readonly help: string;
  /** The value without the flag, as the help shows it. */
  readonly default?: string;
  readonly choices?: readonly string[];
  readonly completes?: Completes;
  /** The help and the completion leave it out, because the command refuses it with a reason. */
  readonly hidden?: true;
};

export type Flags = Readonly<Record<string, Flag>>;

/** The kinds of arguments that the shell completes. */
export type Completes =
  "vm" | "image" | "volume" | "snapshot" | "template" | "operation" | "policy" | "path" | "command";

export type Argument = {
  /** The name in the help, such as `VM`. */
  readonly name: string;
  readonly optional?: true;
  readonly many?: true;
  readonly help?: string;
  readonly completes?: Completes;
  /** Returns the hint of the error when it is missing; by default, the hint is the command's first example. */
  readonly missingHint?: (given: readonly string[]) => string;
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
  /** Connects at the first call, and starts hearthd if it does not run. */
  hearth(options?: { readonly autostart?: boolean }): Promise<Hearth>;
};

export type Command<F extends Flags = Flags> = {
  /** The words that call it, such as `["image", "ls"]`. */
  readonly path: readonly string[];
  /** A line in the imperative, without a full stop. */
  readonly summary: string;
  /** More about it, for the help. */
  readonly about?: string;
  readonly args: readonly Argument[];
  readonly flags: F;
  /** Everything after the first argument belongs to a command in the guest, flags included. */
  readonly passThrough?: true;
  /** All arguments are taken literally: none is a flag, and `--` is an argument. */
  readonly verbatim?: true;
  /** Failures of Hearth exit with 125, because lower codes belong to the guest's command. */
  readonly exitsLikeGuest?: true;
  /** Command lines and what they do. */
  readonly examples: readonly (readonly [line: string, does: string])[];
  /** Returns the exit code; 0 if it returns nothing. */
  run(context: Context<F>): Promise<number | void>;
};

/** Infers the types of the flags from their declaration. */
export function command<const F extends Flags>(value: Command<F>): Command {
  // The parser fills exactly the declared flags, so the wider type is correct.
  return value as unknown as Command;
}

/** The flags of every command, unless it declares its own of that name. */
export const COMMON_FLAGS = {
  json: { help: "Print JSON for programs" },
  quiet: { help: "Do not print progress and notes" },
} as const satisfies Flags;

/** Returns the flag of a name: `bootArgs` is `--boot-args`. */
export function longFlag(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
