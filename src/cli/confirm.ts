import type { Io } from "#cli/io.ts";

/** Asks on the terminal; only a yes is one. */
export async function confirm(io: Io, question: string): Promise<boolean> {
  const { createInterface } = process.getBuiltinModule("node:readline/promises");
  const lines = createInterface({ input: io.stdin, output: io.stderr });
  try {
    return /^y(es)?$/i.test((await lines.question(question)).trim());
  } finally {
    lines.close();
  }
}
