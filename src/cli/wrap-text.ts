/**
 * Breaks text into lines of at most `width` characters, between words. All lines but the first begin with `indent`
 * spaces.
 */
export function wrapText(text: string, indent: number, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  // Each space belongs to the word after it, so that spaces at the beginning stay.
  for (const word of text.split(/(?<=\S)(?=\s)/)) {
    if (line === "" || line.length + word.length <= width) {
      line += word;
      continue;
    }
    lines.push(line);
    line = " ".repeat(indent) + word.trimStart();
  }
  return [...lines, line];
}
