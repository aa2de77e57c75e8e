#!/usr/bin/env node
import { PROCESS_IO } from "#cli/io.ts";
import { main } from "#cli/main.ts";

/** As a program that SIGPIPE ended: `hearth logs web | head -1` is no error. */
const READER_GONE = 141;

for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) =>
    process.exit(error.code === "EPIPE" ? READER_GONE : 1),
  );
}
const code = await main(PROCESS_IO);
// What was printed is on its way to a pipe; only then may the process end, whatever still waits for input.
for (const stream of [process.stdout, process.stderr]) {
  if (stream.writable) await new Promise((resolve) => stream.write("", resolve));
}
process.exit(code);
