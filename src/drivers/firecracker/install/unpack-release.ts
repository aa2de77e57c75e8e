import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import type { Header } from "tar-stream";
import { FIRECRACKER_PROGRAMS } from "#drivers/firecracker/install/firecracker-release.ts";
import type {
  FirecrackerProgram,
  FirecrackerRelease,
} from "#drivers/firecracker/install/firecracker-release.ts";

type Entry = AsyncIterable<Uint8Array> & { readonly header: Header; resume(): unknown };

/** The programs have 3 MB each; with debug information, ten times that. */
const PROGRAM_MAX_BYTES = 128 * 1024 * 1024;
/** A release has some 30 files, the larger half of it debug information. */
const UNPACKED_MAX_BYTES = 1024 * 1024 * 1024;
const ENTRIES_MAX = 1_000;

/** The sha256 of each program, in 64 hex digits. */
export type ProgramSums = Readonly<Record<FirecrackerProgram, string>>;

/**
 * Writes `firecracker` and `jailer` into `dir`, with mode 0755 and synced. Skips everything else in the archive; no
 * name in it becomes a path.
 * @throws Error with what is wrong with the archive; the caller removes what was written
 */
export async function unpackRelease(
  archive: string,
  release: FirecrackerRelease,
  dir: string,
  signal: AbortSignal,
): Promise<ProgramSums> {
  const { extract } = await import("tar-stream");
  const entries = extract();
  const sums = new Map<FirecrackerProgram, string>();
  const feeding = pipeline(createReadStream(archive), createGunzip(), bounded, entries, { signal });
  // The first failure is awaited below; the other one must not be an unhandled rejection until then.
  feeding.catch(() => undefined);
  let count = 0;
  try {
    for await (const entry of entries) {
      if (++count > ENTRIES_MAX) throw new Error(`it contains more than ${ENTRIES_MAX} files`);
      const program = programOf(entry as unknown as Entry, release);
      if (program === undefined) entry.resume();
      else if (sums.has(program)) throw new Error(`it contains ${entry.header.name} twice`);
      else sums.set(program, await writeProgram(entry as unknown as Entry, join(dir, program)));
    }
    await feeding;
  } catch (error) {
    entries.destroy();
    signal.throwIfAborted();
    throw error;
  }
  const { firecracker, jailer } = Object.fromEntries(sums);
  if (firecracker === undefined || jailer === undefined)
    throw new Error(
      `it does not contain ${FIRECRACKER_PROGRAMS.filter((name) => !sums.has(name)).join(" and ")}`,
    );
  return { firecracker, jailer };
}

/** Returns which program this entry is, or undefined. Throws for an entry that cannot be part of a release. */
function programOf({ header }: Entry, release: FirecrackerRelease): FirecrackerProgram | undefined {
  const { name, type } = header;
  if (name.startsWith("/") || name.split("/").includes(".."))
    throw new Error(`it contains a path outside of it, ${JSON.stringify(name)}`);
  const program = FIRECRACKER_PROGRAMS.find((one) => release.members[one] === name.replace(/^\.\//, ""));
  if (program === undefined) return undefined;
  if (type !== "file" && type !== "contiguous-file")
    throw new Error(`${name} is not a file in it, but a ${type ?? "entry of unknown type"}`);
  const { size = 0 } = header;
  if (size === 0 || size > PROGRAM_MAX_BYTES) throw new Error(`${name} has ${size} bytes in it`);
  return program;
}

async function writeProgram(entry: Entry, path: string): Promise<string> {
  const hash = createHash("sha256");
  await using file = await open(path, "wx", 0o755);
  for await (const chunk of entry) {
    hash.update(chunk);
    await file.writeFile(chunk);
  }
  await file.chmod(0o755); // The umask may have cleared bits.
  await file.sync();
  return hash.digest("hex");
}

/** Passes chunks on up to a limit, so that a small file cannot fill the disk. */
async function* bounded(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    sizeBytes += chunk.length;
    if (sizeBytes > UNPACKED_MAX_BYTES)
      throw new Error(`it unpacks to more than ${UNPACKED_MAX_BYTES} bytes`);
    yield chunk;
  }
}
