/** Lines of at most `width` characters where words allow it; all but the first begin with `indent` blanks. */
export function wrapText(text: string, indent: number, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  // A blank belongs to the word after it, so that those at the begin stay as they are.
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
