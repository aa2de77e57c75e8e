/**
 * Text that is safe on a terminal: control characters, also the 8-bit ones and those that turn text around,
 * become their code in print. Names of VMs are safe by rule; text from guests and tools is not.
 */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    const code = character.charCodeAt(0);
    if (character === "\t") return " ";
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`;
  });
}

/** As `printable`, for text of several lines. */
export function printableLines(text: string): string {
  return text
    .split("\n")
    .map((line) => printable(line.endsWith("\r") ? line.slice(0, -1) : line))
    .join("\n");
}
