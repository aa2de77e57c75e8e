/**
 * Makes text from guests, tools and requests safe for a terminal and for a log. There is one set of characters that are
 * never printed as they are: controls, also the 8-bit ones that start an escape sequence, and what reorders or hides text.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** Text that is usual, and found to be printable ten times as fast. */
const ASCII = /^[\x20-\x7e]*$/;

/** Whole escape sequences (CSI, and OSC up to its end), with a 7-bit or an 8-bit introducer. */
const SEQUENCES =
  // eslint-disable-next-line no-control-regex -- these are what is taken out
  /(?:\u001b\[|\u009b)[0-9;:<=>?]*[ -/]*[@-~]|(?:\u001b\]|\u009d)[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?/g;

/** Tells whether each character is one of ASCII that can be printed. */
export function isAscii(text: string): boolean {
  return ASCII.test(text);
}

/** Whether the text can be printed as it is, on one line. */
export function isPrintable(text: string): boolean {
  return text.search(UNPRINTABLE) < 0;
}

/** Returns the text on one line, with an escape such as `\x1b` in place of what cannot be printed; a tab becomes a blank. */
export function printable(text: string): string {
  if (ASCII.test(text)) return text;
  return text.replace(UNPRINTABLE, (character) => {
    if (character === "\t") return " ";
    const code = character.codePointAt(0) ?? 0;
    const hex = code.toString(16);
    if (code < 0x100) return `\\x${hex.padStart(2, "0")}`;
    return code < 0x1_0000 ? `\\u${hex.padStart(4, "0")}` : `\\u{${hex}}`;
  });
}

/** Returns what `printable` makes of each line. */
export function printableLines(text: string): string {
  return text
    .split("\n")
    .map((line) => printable(line.endsWith("\r") ? line.slice(0, -1) : line))
    .join("\n");
}

/** Returns one line of a log without escape sequences and without what cannot be printed, such as colours of a console. */
export function withoutControls(line: string): string {
  return line.replace(SEQUENCES, "").replaceAll("\t", " ").replace(UNPRINTABLE, "");
}
