import type { Readable } from "node:stream";
import { HearthError } from "#base/error.ts";
import type { Io } from "#cli/io.ts";
import type { Out } from "#cli/output.ts";
import { printable, printableLines } from "#base/printable.ts";

/** The limit for a line, because a guest may never end one. */
const LINE_MAX_CHARS = 64 * 1024;

/** Prints a log: escaped on a terminal, byte for byte into a pipe, an object for each line with `--json`. */
export async function printLog(log: Readable, io: Io, out: Out): Promise<void> {
  if (out.wantsJson) {
    for await (const line of linesOf(log)) out.jsonLine({ line });
    return;
  }
  const decoder = new TextDecoder();
  const clean = io.stdout.isTTY === true;
  for await (const chunk of log as AsyncIterable<Buffer>) {
    const piece = clean ? printableLines(decoder.decode(chunk, { stream: true })) : chunk;
    if (!io.stdout.write(piece)) await new Promise((resolve) => io.stdout.once("drain", resolve));
  }
}

/** Parses a number of lines. @throws HearthError `input.invalid`. */
export function parseLineCount(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,7}$/.test(text)) return Number(text);
  const hint = "Write a whole number, such as 100.";
  throw new HearthError("input.invalid", `lines: ${JSON.stringify(text)} is not a number of lines.`, {
    hint,
  });
}

async function* linesOf(log: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of log as AsyncIterable<Buffer>) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split(/\r?\n/);
    rest = lines.pop() ?? "";
    for (const line of lines) yield printable(line);
    if (rest.length > LINE_MAX_CHARS) {
      yield printable(rest);
      rest = "";
    }
  }
  if (rest !== "") yield printable(rest);
}
