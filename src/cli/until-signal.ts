import type { Io } from "#cli/io.ts";

const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
/** So many signals end the program, whatever its work still waits for. */
const INSISTENT = 3;

/**
 * Runs work that undoes what it has made when the program is asked to end. The exit code is the shell's for that
 * signal then. The third signal ends the wait for it.
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
