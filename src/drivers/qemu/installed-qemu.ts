/** Finds the QEMU on this host: its version, what it was built with, and where its firmware is. */
import { realpathSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join } from "node:path";
import { HearthError, toError } from "#base/error.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool, run } from "#host/run.ts";

export const DEFAULT_QEMU = "qemu-system-x86_64";

export type InstalledQemu = {
  /** The version, such as "7.2.22". */
  readonly version: string;
  /** Undefined where QEMU's data directories have no qboot.rom. */
  readonly firmware: QemuFirmware | undefined;
};

export type QemuFirmware = {
  /** Absolute path of a microvm's firmware. */
  readonly qboot: string;
  /** Directories that are to be searched before those that QEMU was built with. */
  readonly dataDirs: readonly string[];
};

/**
 * The firmware that microvms boot with. SeaBIOS 1.16.3 hangs in a microvm with virtio-blk and exactly 2048 MiB; qboot
 * boots all sizes.
 */
const QBOOT = "qboot.rom";
/** The names of programs by which hearthd recognizes running VMMs. */
const PROGRAM_NAME = /^qemu(?:-|$)/;
const ASK_TIMEOUT_MS = 10_000;
/** Data directories below the prefix in which a QEMU is installed; the last two are Debian's. */
const DATA_DIRS = ["share/qemu", "share/seabios", "lib/ipxe/qemu"];

/** Finished and running requests: a hundred callers at once start one QEMU. */
const asked = new Map<string, Promise<InstalledQemu | Error>>();

/** Asks QEMU once per installed program; an upgraded program is another one. @throws the reason of `signal` */
export async function findInstalledQemu(
  program: string,
  signal: AbortSignal,
): Promise<InstalledQemu | Error> {
  const path = locate(program);
  if (path instanceof Error) return path;
  const key = `${path} ${statSync(path).mtimeMs}`;
  const known = asked.get(key);
  if (known !== undefined) return known;
  // Not the caller's signal: others wait for the same answer, which has its own deadline.
  const asking = askQemu(path, new AbortController().signal);
  asked.set(key, asking);
  const installed = await asking;
  // The next call may succeed, or what was missing may have been installed.
  if (installed instanceof Error || installed.firmware === undefined) asked.delete(key);
  signal.throwIfAborted();
  return installed;
}

/** Returns the version of the installed QEMU; undefined when none answers. */
export async function findQemuVersion(program: string, signal: AbortSignal): Promise<string | undefined> {
  const installed = await findInstalledQemu(program, signal);
  return installed instanceof Error ? undefined : installed.version;
}

/** Returns what is wrong with the name of a QEMU program; undefined when nothing is. */
export function qemuProgramDenial(program: string): string | undefined {
  if (program.includes("\0") || (program.includes("/") && !isAbsolute(program)))
    return "must be a name on PATH, or an absolute path";
  if (PROGRAM_NAME.test(basename(program))) return undefined;
  return "must be a program whose name begins with qemu-, as hearthd finds its processes by it";
}

async function askQemu(path: string, signal: AbortSignal): Promise<InstalledQemu | Error> {
  const options = { timeoutMs: ASK_TIMEOUT_MS, signal };
  const version = await run(path, ["--version"], options);
  signal.throwIfAborted();
  if (!version.ok) return version.error;
  const number = /version (\d+\.\d+(?:\.\d+)?)/.exec(version.stdout)?.[1];
  if (number === undefined) return new Error(`${path} --version does not look like that of QEMU.`);
  const builtIn = await run(path, ["-L", "help"], options);
  signal.throwIfAborted();
  return {
    version: number,
    firmware: findFirmware(path, builtIn.ok ? builtIn.stdout.split("\n") : []),
  };
}

/**
 * Finds qboot. A QEMU that was built for /usr and unpacked elsewhere finds its firmware in /usr, which may be that of
 * another version: directories beside the program come first.
 */
function findFirmware(program: string, builtIn: readonly string[]): QemuFirmware | undefined {
  const prefix = dirname(dirname(program));
  const beside = DATA_DIRS.map((name) => join(prefix, name)).filter(isDirectory);
  const all = [...beside, ...builtIn.map((line) => line.trim()).filter(isAbsolute)];
  const qboot = all.map((dir) => join(dir, QBOOT)).find(isFile);
  // The jail shows no links on the way.
  return qboot === undefined ? undefined : { qboot: realpathSync(qboot), dataDirs: beside };
}

/** Returns the path of the program itself, with links resolved. */
function locate(program: string): string | Error {
  const path = isAbsolute(program) ? program : findProgram(program);
  if (path === undefined || !isFile(path)) return notThere(program);
  let real: string;
  try {
    real = realpathSync(path);
  } catch (error) {
    return toError(error);
  }
  const denial = qemuProgramDenial(real);
  return denial === undefined ? real : new Error(`The QEMU program ${real} ${denial}.`);
}

function notThere(program: string): HearthError {
  if (program === DEFAULT_QEMU) return missingTool(program);
  return new HearthError("host.tool_missing", `\`${program}\` is not installed.`, {
    hint: "Correct drivers.qemu.program in config.toml, or leave it out for the QEMU on PATH.",
  });
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
