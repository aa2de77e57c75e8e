/** Checks whether a program may be run as part of Hearth, and which version it reports. */
import { existsSync, realpathSync, statSync } from "node:fs";
import type { BigIntStats } from "node:fs";
import { dirname } from "node:path";
import { hashFile } from "#host/hash-file.ts";
import { run } from "#host/run.ts";

const ASK_TIMEOUT_MS = 10_000;
/** Write permission of group and others. */
const OTHERS_WRITE = 0o022n;
const STICKY = 0o1000n;

export type ProgramFile = {
  /** The path with all links resolved. */
  readonly path: string;
  readonly ownerUid: number;
  /** Permission bits, such as 0o755. */
  readonly mode: number;
};

export type InspectedProgram = ProgramFile & { readonly version: string };

/** The programs' answers, by what stat(2) says of the files: a program that was replaced is asked again. */
const asked = new Map<string, Promise<string>>();

/**
 * @param sha256 the checksum that the file must have, where that is known; with another one it is not run
 * @throws Error with the reason, a sentence
 */
export async function inspectProgram(
  path: string,
  name: "Firecracker" | "Jailer",
  sha256: string | undefined,
  signal: AbortSignal,
): Promise<InspectedProgram> {
  const file = checkFile(path);
  const key = `${stampOf(file.path)} ${sha256 ?? ""}`;
  let asking = asked.get(key);
  if (asking === undefined) {
    // Not the caller's signal: others wait for the same answer, which has its own deadline.
    asking = verifyAndAsk(file.path, name, sha256, new AbortController().signal);
    asked.set(key, asking);
    // The next call may succeed.
    asking.catch(() => asked.delete(key));
  }
  const version = await asking;
  signal.throwIfAborted();
  return { ...file, version };
}

async function verifyAndAsk(
  path: string,
  name: string,
  sha256: string | undefined,
  signal: AbortSignal,
): Promise<string> {
  if (sha256 !== undefined && (await hashFile(path, signal)).sha256 !== sha256)
    throw new Error(`${path} has changed since it was installed.`);
  const answer = await run(path, ["--version"], { timeoutMs: ASK_TIMEOUT_MS, signal });
  if (!answer.ok) throw new Error(`${path} does not print its version: ${answer.error.message}`);
  // Includes a suffix: a development build ("1.17.0-dev") is not its release.
  const version = new RegExp(`^${name} v(\\d+\\.\\d+\\.\\d+(?:-[0-9A-Za-z.-]+)?)`).exec(answer.stdout)?.[1];
  if (version === undefined) throw new Error(`${path} --version does not look like that of ${name}.`);
  return version;
}

/** Checks the file without running it. @throws Error when anyone but root or hearthd's user could change it */
function checkFile(given: string): ProgramFile {
  const path = realPath(given);
  const { uid, mode } = statOf(path);
  const bits = `${given} ${describe(uid, mode)}`;
  const us = process.getuid?.() ?? 0;
  if (uid !== 0n && uid !== BigInt(us))
    throw new Error(`${bits}: it belongs neither to root nor to the user of hearthd.`);
  if ((mode & 0o111n) === 0n) throw new Error(`${bits}: it cannot be executed.`);
  if ((mode & OTHERS_WRITE) !== 0n) throw new Error(`${bits}: users other than its owner can change it.`);
  for (let dir = dirname(path); ; dir = dirname(dir)) {
    const parent = statSync(dir, { bigint: true });
    if ((parent.mode & 0o002n) !== 0n && (parent.mode & STICKY) === 0n)
      throw new Error(`${given} is in ${dir}, where every user can replace it.`);
    if (dir === dirname(dir)) break;
  }
  return { path, ownerUid: Number(uid), mode: Number(mode & 0o7777n) };
}

function describe(uid: bigint, mode: bigint): string {
  return `(uid ${uid}, mode ${(mode & 0o7777n).toString(8).padStart(4, "0")})`;
}

function realPath(path: string): string {
  if (!existsSync(path)) throw new Error(`${path} is missing.`);
  return realpathSync(path);
}

function statOf(path: string): BigIntStats {
  const stats = statSync(path, { bigint: true });
  if (!stats.isFile()) throw new Error(`${path} is not a file.`);
  return stats;
}

function stampOf(path: string): string {
  const { dev, ino, size, mtimeNs, ctimeNs } = statOf(path);
  return [path, dev, ino, size, mtimeNs, ctimeNs].join(" ");
}
