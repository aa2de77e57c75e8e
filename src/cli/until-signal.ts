import type { Io } from "#cli/io.ts";

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
/** The number of signals that end the program, whatever the work still waits for. */
const INSISTENT = 3;

/**
 * Runs work that undoes its steps when a signal ends the program. Returns the shell's exit code for that signal. The
 * third signal ends the wait.
 */
export async function untilSignal(io: Io, work: (signal: AbortSignal) => Promise<void>): Promise<number> {
  const controller = new AbortController();
  const insisted = Promise.withResolvers<number>();
  let code: number | undefined;
  let signals = 0;
  const undo = Object.entries(EXIT_CODES).map(([name, exit]) =>
    io.onSignal(name as keyof typeof EXIT_CODES, () => {
      code ??= exit;
      controller.abort();
      if (++signals >= INSISTENT) insisted.resolve(code);
    }),
  );
  const done = work(controller.signal).then(
    () => 0,
    (error: unknown) => {
      if (code === undefined) throw error;
      return code;
    },
  );
  try {
    return await Promise.race([done, insisted.promise]);
  } finally {
    for (const each of undo) each();
  }
}
