import type { Io } from "#cli/io.ts";

/** Asks on the terminal; only a yes is one. Ctrl-C is the answer of a person who wants out. */
export async function confirm(io: Io, question: string): Promise<"yes" | "no" | "interrupted"> {
  const { createInterface } = process.getBuiltinModule("node:readline");
  const lines = createInterface({ input: io.stdin, output: io.stderr });
  const { promise, resolve } = Promise.withResolvers<"yes" | "no" | "interrupted">();
  lines.once("SIGINT", () => resolve("interrupted"));
  // The end of the input, Ctrl-D: there is no answer, and so no yes.
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
