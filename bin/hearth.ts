#!/usr/bin/env -S node --
import { exitProcess } from "#base/exit-process.ts";
import { flushProcessIo, PROCESS_IO } from "#cli/io.ts";
import type { Io } from "#cli/io.ts";
import { main } from "#cli/main.ts";

const io: Io = Object.create(PROCESS_IO, { printAsIs: { value: printAsIs } });
const code = await main(io);
await flushProcessIo();
exitProcess(code);

/** The command line starts no programs, and a terminal is set by one; loaded for those who have a terminal. */
async function printAsIs(): Promise<void> {
  const terminal = await import("#host/terminal.ts");
  await terminal.printAsIs(process.stdin.fd, new AbortController().signal);
}
