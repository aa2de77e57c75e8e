/** Reads the messages of the privileged port: one JSON document a line, of limited length. */
import { HearthError } from "#base/error.ts";

const NEWLINE = 0x0a;
/** The number of chunks after which they are joined, so that a peer that sends single bytes costs little memory. */
const PARTS_MAX = 64;

/**
 * Reads lines of UTF-8. An incomplete last line is ignored: its sender ended in the middle.
 * @throws HearthError `input.too_large` for a line longer than `maxBytes`, `input.invalid` for one that is not UTF-8
 */
export async function* readLines(
  stream: AsyncIterable<unknown>,
  maxBytes: number,
): AsyncGenerator<string, void, undefined> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let rest = chunk;
    for (let end = rest.indexOf(NEWLINE); end !== -1; end = rest.indexOf(NEWLINE)) {
      checkLength(length + end, maxBytes);
      yield decode(Buffer.concat([...parts, rest.subarray(0, end)]));
      rest = rest.subarray(end + 1);
      parts = [];
      length = 0;
    }
    length += rest.length;
    checkLength(length, maxBytes);
    parts.push(rest);
    if (parts.length > PARTS_MAX) parts = [Buffer.concat(parts)];
  }
}

/** @throws HearthError `input.invalid` for a line that is not JSON */
export function parseJson(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (cause) {
    throw new HearthError("input.invalid", "A message is not JSON.", { cause });
  }
}

function checkLength(bytes: number, maxBytes: number): void {
  if (bytes > maxBytes)
    throw new HearthError("input.too_large", `A message is longer than ${maxBytes} bytes.`);
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new HearthError("input.invalid", "A message is not UTF-8.", { cause });
  }
}
