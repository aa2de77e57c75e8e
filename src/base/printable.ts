/**
 * Makes text from guests, tools and requests safe for a terminal and for a log. This set of characters is never printed
 * as it is: controls, also the 8-bit ones that start an escape sequence, and characters that reorder or hide text.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** The fast path: printable ASCII, tested ten times as fast. */
const ASCII = /^[\x20-\x7e]*$/;

/** Whole escape sequences (CSI, and OSC up to its end), with a 7-bit or an 8-bit introducer. */
const SEQUENCES =
  // eslint-disable-next-line no-control-regex -- these are what is taken out
  /(?:\u001b\[|\u009b)[0-9;:<=>?]*[ -/]*[@-~]|(?:\u001b\]|\u009d)[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?/g;

/** Tells whether each character is one of ASCII that can be printed. */
export function isAscii(text: string): boolean {
  return ASCII.test(text);
}

/** Tells whether the text can be printed unchanged on one line. */
export function isPrintable(text: string): boolean {
  return text.search(UNPRINTABLE) < 0;
}

/**
 * Returns the text on one line. Characters that cannot be printed become escapes such as `\x1b`, and a tab becomes a
 * space.
 */
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

/** Applies `printable` to each line. */
export function printableLines(text: string): string {
  return text
    .split("\n")
    .map((line) => printable(line.endsWith("\r") ? line.slice(0, -1) : line))
    .join("\n");
}

/**
 * Returns one line of a log without escape sequences, such as a console's colours, and without unprintable characters.
 */
export function withoutControls(line: string): string {
  return line.replace(SEQUENCES, "").replaceAll("\t", " ").replace(UNPRINTABLE, "");
}
