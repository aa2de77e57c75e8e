import type { Io } from "#cli/io.ts";

/** Asks on the terminal. Any answer but yes is a no, and Ctrl-C interrupts. */
export async function confirm(io: Io, question: string): Promise<"yes" | "no" | "interrupted"> {
  const { createInterface } = process.getBuiltinModule("node:readline");
  const lines = createInterface({ input: io.stdin, output: io.stderr });
  const { promise, resolve } = Promise.withResolvers<"yes" | "no" | "interrupted">();
  lines.once("SIGINT", () => resolve("interrupted"));
  // Ctrl-D, or the end of the input: no answer is a no.
  lines.once("close", () => resolve("no"));
  lines.question(question, (answer) => resolve(/^y(es)?$/i.test(answer.trim()) ? "yes" : "no"));
  try {
    const answer = await promise;
    if (answer === "interrupted") io.stderr.write("\n");
    return answer;
  } finally {
    lines.close();
  }
}
