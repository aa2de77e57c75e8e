/** Controls, and what reorders or hides text: none of it may reach a terminal from a guest. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/**
 * Text that a guest wrote, made safe for a terminal and a log line: one line, at most `maxChars` characters,
 * every control character shown as an escape.
 */
export function guestText(text: string, maxChars: number): string {
  const cut = text.length > maxChars ? `${text.slice(0, maxChars)}…` : text;
  return cut.replace(UNPRINTABLE, (char) => {
    if (char === "\n" || char === "\t" || char === "\r") return " ";
    return `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`;
  });
}
