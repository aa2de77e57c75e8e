import { toError } from "#base/error.ts";
import type { BytePath } from "#sdk/byte-path.ts";
import { shownPath } from "#sdk/byte-path.ts";
import type { SkippedFiles } from "#sdk/skipped-files.ts";
import { readTarMembers } from "#sdk/tar-read.ts";

/** The global pax record in which the agent names a file that is missing in the archive, and why. */
const SKIPPED_RECORD = "HEARTH.skipped";

/** Returns a handler of global pax headers that collects these records. */
export function skippedRecords(skipped: SkippedFiles): (key: string, value: BytePath) => void {
  return (key, value) => {
    if (key === SKIPPED_RECORD) skipped.addText(shownPath(value));
  };
}

/**
 * Passes a guest's archive through unchanged, and collects what is missing in it.
 * @throws HearthError `file.refused` at the end of an archive that is broken or cut off.
 */
export async function* noticingSkipped(
  tar: AsyncIterable<Uint8Array>,
  skipped: SkippedFiles,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const copy = writable.getWriter();
  copy.closed.catch(() => {}); // `reading` has the reason.
  let failure: Error | undefined;
  const reading = readMembers(readable, skipped, signal).catch((error: unknown) => {
    failure = toError(error);
  });
  const ignore = (): void => {}; // `reading` has the reason.
  for await (const chunk of tar) {
    if (failure === undefined) await Promise.race([copy.write(chunk).then(ignore, ignore), reading]);
    yield chunk;
  }
  await Promise.race([copy.close().then(ignore, ignore), reading]);
  await reading;
  if (failure !== undefined) throw failure;
}

async function readMembers(
  tar: AsyncIterable<Uint8Array>,
  skipped: SkippedFiles,
  signal: AbortSignal | undefined,
): Promise<void> {
  const members = readTarMembers(tar, { onGlobal: skippedRecords(skipped) }, signal);
  for await (const member of members) void member; // Skips the content.
}
