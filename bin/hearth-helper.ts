#!/usr/bin/env -S node --
/**
 * hearth-helper: does as root what hearthd asks of it, over the stream socket that is its fd 3. It reads its settings,
 * one JSON document, from stdin. It ends with the connection; the VMMs run on.
 */
import { Socket } from "node:net";
import { text } from "node:stream/consumers";
import { errorBody } from "#base/error.ts";
import { exitProcess } from "#base/exit-process.ts";
import { parseHelperSettings } from "#helper/helper-settings.ts";
import { servePort } from "#helper/port-server.ts";
import { PrivilegedVerbs } from "#helper/privileged-verbs.ts";

const PORT_FD = 3;
/**
 * Set here, whatever the parent's umask is: everybody must be able to pass through the directories that the verbs make.
 */
const UMASK = 0o022;

process.umask(UMASK);
try {
  const port = new PrivilegedVerbs(parseHelperSettings(await text(process.stdin)));
  const stream = new Socket({ fd: PORT_FD });
  process.on("SIGTERM", () => stream.destroy());
  // A terminal's signals are for hearthd, which closes the connection when it ends.
  for (const name of ["SIGINT", "SIGHUP"] as const) process.on(name, () => {});
  await servePort(port, stream, (error) => process.stderr.write(`${describe(error)}\n`));
  exitProcess(0);
} catch (error) {
  process.stderr.write(`${JSON.stringify({ error: errorBody(error) })}\n`);
  exitProcess(1);
}

/** Includes the stack: the client gets the error without it. */
function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
