import { printable } from "#base/printable.ts";

/**
 * Makes text of a guest safe for a terminal and a log line: one line of at most `maxChars` characters, with an escape
 * in place of each character that cannot be printed.
 */
export function guestText(text: string, maxChars: number): string {
  const cut = text.length > maxChars ? `${text.slice(0, maxChars)}…` : text;
  return printable(cut.replaceAll(/[\n\r]/g, " "));
}
