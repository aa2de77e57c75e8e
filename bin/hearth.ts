#!/usr/bin/env -S node --
import { exitProcess } from "#base/exit-process.ts";
import { flushProcessIo, PROCESS_IO } from "#cli/io.ts";
import type { Io } from "#cli/io.ts";
import { main } from "#cli/main.ts";

const io: Io = Object.create(PROCESS_IO, { printAsIs: { value: printAsIs } });
const code = await main(io);
await flushProcessIo();
exitProcess(code);

/**
 * Loads the module for terminals only when it is needed: it starts a program, and the rest of the command line does
 * not.
 */
async function printAsIs(): Promise<void> {
  const terminal = await import("#host/terminal.ts");
  await terminal.printAsIs(process.stdin.fd, new AbortController().signal);
}
