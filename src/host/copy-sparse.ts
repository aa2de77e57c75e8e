import { runOrThrow } from "#host/run.ts";

/** Of a large disk on a slow one. */
const TIMEOUT_MS = 3_600_000;

/** A copy to a path where nothing is: by reference where the file system can, and holes stay holes. */
export async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  await runOrThrow("cp", ["--sparse=always", "--reflink=auto", "--", from, to], {
    timeoutMs: TIMEOUT_MS,
    signal,
  });
}
