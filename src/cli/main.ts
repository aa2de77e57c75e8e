/** Runs a command line, from its words to an exit code. */
import { ERROR_CODES, HearthError, toHearthError } from "#base/error.ts";
import type { Command, Context } from "#cli/command.ts";
import { findCommand } from "#cli/find-command.ts";
import type { Found } from "#cli/find-command.ts";
import type { Io } from "#cli/io.ts";
import { Out, withDetails } from "#cli/output.ts";
import { parseArguments } from "#cli/parse.ts";
import type { Hearth } from "#sdk/hearth.ts";

/** Lower codes belong to the guest's command in `run`, `exec` and `shell`. */
const HEARTH_FAILED = 125;
const USAGE = 2;

/** Runs one command line. Never throws: errors are printed and become the exit code. */
export async function main(io: Io): Promise<number> {
  const words = normalised(io.argv);
  let out = new Out(io, { json: asksForJson(words), quiet: false });
  let command: Command | undefined;
  try {
    const found = findCommand(words);
    if (found === undefined) return await withoutCommand(words, out);
    command = (await found.load()).default;
    if (command.exitsLikeGuest === true) io.exitOnFailure?.(HEARTH_FAILED);
    assertText(io);
    const { args, flags, help } = parseArguments(command, found.rest);
    if (help) return await showHelp(found, out);
    out = new Out(io, { json: flags["json"] === true, quiet: flags["quiet"] === true });
    const connector = new Connector(io);
    const context = { args, flags, io, out, hearth: connector.connect } as Context;
    const code = (await command.run(context)) ?? 0;
    await connector.compareVersions(out);
    return code;
  } catch (thrown) {
    out.error(withDetails(thrown, io));
    return exitCodeOf(thrown, command);
  } finally {
    out.clearProgress();
  }
}

/**
 * Returns the exit code of an error. `run` and `exec` keep 126, 127 and 130; every other failure of Hearth is 125
 * there.
 */
export function exitCodeOf(thrown: unknown, command: Command | undefined): number {
  const { code } = toHearthError(thrown);
  const { exit } = ERROR_CODES[code];
  if (command?.exitsLikeGuest !== true) return exit;
  return code === "exec.not_found" || code === "exec.not_executable" || code === "operation.cancelled"
    ? exit
    : HEARTH_FAILED;
}

/** Moves flags before the command behind it. `-h` and `-V` alone are commands. */
function normalised(argv: readonly string[]): readonly string[] {
  const first = argv.findIndex((word) => !word.startsWith("-"));
  const before = first === -1 ? argv : argv.slice(0, first);
  if (before.length === 0) return argv;
  if (before.some((word) => word === "--version" || word === "-V")) return ["version"];
  if (before.some((word) => word === "--help" || word === "-h"))
    return ["help", ...(first === -1 ? [] : argv.slice(first))];
  if (first === -1) return argv;
  const rest = argv.slice(first);
  const count = findCommand(rest) === undefined ? 0 : rest.length - (findCommand(rest)?.rest.length ?? 0);
  return [...rest.slice(0, count), ...before, ...rest.slice(count)];
}

/**
 * Refuses arguments that are not UTF-8, because a changed argument could name another file.
 * @throws HearthError `input.invalid`
 */
function assertText(io: Io): void {
  if (!io.argv.some((word) => word.includes("\ufffd"))) return;
  const { isUtf8 } = process.getBuiltinModule("node:buffer");
  const broken = io.rawArgv?.().find((word) => !isUtf8(word));
  if (broken === undefined) return;
  const hint = "Copy the directory that it is in, or pass such bytes on stdin.";
  const shown = JSON.stringify(broken.toString());
  throw new HearthError("input.invalid", `The argument ${shown} is not UTF-8.`, { hint });
}

function asksForJson(words: readonly string[]): boolean {
  const end = words.indexOf("--");
  return (end === -1 ? words : words.slice(0, end)).includes("--json");
}

async function withoutCommand(words: readonly string[], out: Out): Promise<number> {
  const { overview, unknownCommand } = await import("#cli/help.ts");
  if (words.length === 0) {
    out.text(overview());
    return 0;
  }
  out.error(unknownCommand(words));
  return USAGE;
}

async function showHelp(found: Found, out: Out): Promise<number> {
  const { commandHelp } = await import("#cli/help.ts");
  out.text(commandHelp((await found.load()).default));
  return 0;
}

/** The connection of a command, made when it is first needed. */
class Connector {
  readonly #io: Io;
  #client: Promise<Hearth> | undefined;

  constructor(io: Io) {
    this.#io = io;
  }

  readonly connect: Context["hearth"] = (options = {}) => {
    this.#client ??= import("#sdk/hearth.ts").then(({ Hearth: Client }) =>
      Client.connect({ env: this.#io.env, ...options }),
    );
    return this.#client;
  };

  /** Prints a note if hearthd has another version: after an upgrade the old hearthd still runs. */
  async compareVersions(out: Out): Promise<void> {
    // The command has reported or handled a failed connection.
    const [client] = await Promise.allSettled([this.#client]);
    const theirs = client.status === "fulfilled" ? client.value?.daemonVersion : undefined;
    if (theirs === undefined) return;
    const { hearthVersion } = await import("#base/version.ts");
    const ours = hearthVersion();
    if (theirs === ours) return;
    out.note(
      `note: hearthd ${theirs} is running, but this is hearth ${ours}. ` +
        "`hearth daemon stop` stops it and keeps its VMs running; the next command starts the new version.",
    );
  }
}
