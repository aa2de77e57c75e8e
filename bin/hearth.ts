#!/usr/bin/env node
import { flushProcessIo, PROCESS_IO } from "#cli/io.ts";
import { main } from "#cli/main.ts";

const code = await main(PROCESS_IO);
await flushProcessIo();
// Whatever still waits for input does not keep us.
process.exit(code);
