import type { Io } from "#cli/io.ts";

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** Work that takes back what it has made when we are asked to end. The exit code is the shell's for that signal then. */
export async function untilSignal(io: Io, work: (signal: AbortSignal) => Promise<void>): Promise<number> {
  const controller = new AbortController();
  let code: number | undefined;
  const undo = Object.entries(EXIT_CODES).map(([name, exit]) =>
    io.onSignal(name as keyof typeof EXIT_CODES, () => {
      code ??= exit;
      controller.abort();
    }),
  );
  try {
    await work(controller.signal);
    return 0;
  } catch (error) {
    if (code === undefined) throw error;
    return code;
  } finally {
    for (const each of undo) each();
  }
}
