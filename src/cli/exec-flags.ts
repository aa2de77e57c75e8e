import { resolve } from "node:path";
import type { Exec } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import { checkEnvName, checkExec } from "#model/exec-spec.ts";
import { windowSize } from "#cli/attach.ts";
import type { Flags, FlagValues } from "#cli/command.ts";
import type { Io } from "#cli/io.ts";

/** The flags that `run` and `exec` share. */
export const EXEC_FLAGS = {
  interactive: { short: "i", help: "Pass stdin on, even if it is a terminal" },
  tty: { short: "t", help: "Allocate a terminal for the command" },
  detach: { short: "d", help: "Run the command in the background and print its PID" },
  env: {
    short: "e",
    value: "NAME[=VALUE]",
    many: true,
    help: "Set an environment variable; without a value, copy it from here",
  },
  envFile: {
    value: "FILE",
    many: true,
    help: "Read environment variables from a file of NAME=VALUE lines",
    completes: "path",
  },
  user: { short: "u", value: "USER", default: "user of the image", help: "User name, or UID[:GID]" },
  workdir: {
    short: "w",
    value: "DIR",
    default: "directory of the image",
    help: "Working directory in the VM",
  },
} as const satisfies Flags;

/** The flags of `exec` and `shell` for a VM that may have values of its own, from `create`. */
export const OF_VM_FLAGS = {
  user: { ...EXEC_FLAGS.user, default: "user of the VM, or else of the image" },
  workdir: { ...EXEC_FLAGS.workdir, default: "directory of the VM, or else of the image" },
} as const satisfies Flags;

type ExecFlagValues = Pick<
  FlagValues<typeof EXEC_FLAGS>,
  "interactive" | "tty" | "detach" | "user" | "workdir"
>;

/** Decides how stdin and the terminal are used. The help of both commands has the rule. */
export function planStdio(
  flags: Pick<ExecFlagValues, "interactive" | "tty" | "detach">,
  io: Io,
  wants: { readonly terminalByDefault: boolean; readonly json: boolean },
): { readonly tty: boolean; readonly stdin: boolean } {
  if (flags.detach) return { tty: false, stdin: false };
  const atTerminal = io.stdinIsTerminal && io.stdout.isTTY === true;
  const tty = !wants.json && (flags.tty || (wants.terminalByDefault && atTerminal));
  return { tty, stdin: flags.interactive || tty || !io.stdinIsTerminal };
}

/** Builds the exec request. @throws HearthError `input.invalid` for arguments that no exec accepts. */
export function execRequest(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  flags: ExecFlagValues,
  stdio: { readonly tty: boolean; readonly stdin: boolean },
  io: Io,
): Exec {
  checkExec({ argv, env });
  const term = io.env["TERM"] || "xterm";
  return {
    argv: [...argv],
    env: { ...env },
    ...(flags.user !== undefined && { user: flags.user }),
    ...(flags.workdir !== undefined && { workdir: flags.workdir }),
    ...(stdio.tty && { tty: { ...windowSize(io), term } }),
    stdin: stdio.stdin,
    ...(flags.detach && { detach: true }),
  };
}

/** Reads the environment. Files come first, so that a flag overrides a line of a file. */
export function readEnv(
  flags: { readonly env: readonly string[]; readonly envFile: readonly string[] },
  io: Io,
): Readonly<Record<string, string>> {
  const pairs = [...flags.envFile.flatMap((file) => envFileLines(file, io)), ...flags.env];
  return Object.fromEntries(pairs.map((pair) => parsePair(pair, io)));
}

function parsePair(pair: string, io: Io): readonly [string, string] {
  const at = pair.indexOf("=");
  const name = at === -1 ? pair : pair.slice(0, at);
  checkEnvName(name);
  if (at !== -1) return [name, pair.slice(at + 1)];
  const value = io.env[name];
  if (value !== undefined) return [name, value];
  throw new HearthError("input.invalid", `env: ${name} is not set here.`, {
    hint: `Give it a value: -e ${name}=VALUE.`,
  });
}

function envFileLines(file: string, io: Io): readonly string[] {
  let text: string;
  const { readFileSync } = process.getBuiltinModule("node:fs"); // See io.ts for the reason why this is not an import.
  try {
    text = readFileSync(resolve(io.cwd, file), "utf8");
  } catch (cause) {
    throw new HearthError("input.invalid", `env-file: ${file} cannot be read`, {
      hint: "Give a file of NAME=VALUE lines.",
      cause,
    });
  }
  return text.split(/\r?\n/).filter((line) => line.trim() !== "" && !line.trimStart().startsWith("#"));
}
