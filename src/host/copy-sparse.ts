import { runOrThrow } from "#host/run.ts";

/** The time to copy a large disk on slow storage. */
const TIMEOUT_MS = 3_600_000;

/** Copies a file to a path that must not exist: by reference if the file system supports it. Holes stay holes. */
export async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  await runOrThrow("cp", ["--sparse=always", "--reflink=auto", "--", from, to], {
    timeoutMs: TIMEOUT_MS,
    signal,
  });
}
